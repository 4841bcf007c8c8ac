/** Patterns by which settings name modules: a stranger wrote them, for Python's `re`. */
import { createContext, Script } from 'node:vm';
import { ConfigError, show } from '../../errors.ts';

/** Matches names with the patterns of one checkpoint's settings; see {@link withinTime}. */
export class Patterns {
  readonly #where: string;
  readonly #compiled = new Map<string, RegExp>();

  /** @param where the patterns stand, for messages */
  constructor(where: string) {
    this.#where = where;
  }

  /** Whether a pattern matches from the start of a name: `re.match`. @throws ConfigError for one that is malformed */
  matches(pattern: string, name: string): boolean {
    return this.#compile(`^(?:${pattern})`).test(name);
  }

  /** Whether a pattern occurs in a name: `re.search`. @throws ConfigError for one that is malformed */
  occurs(pattern: string, name: string): boolean {
    return this.#compile(pattern).test(name);
  }

  #compile(source: string): RegExp {
    const known = this.#compiled.get(source);
    if (known) return known;
    try {
      // Names of groups are all that is written differently in such patterns.
      const pattern = new RegExp(source.replaceAll('(?P<', '(?<'));
      this.#compiled.set(source, pattern);
      return pattern;
    } catch (cause) {
      throw new ConfigError(`${this.#where} has a pattern that cannot be used: ${show(source)}`, { cause });
    }
  }
}

/** What a task may take, and more for each module: a thousand times what sound patterns need. */
const TIME_MS = 5_000;
const TIME_MS_PER_MODULE = 5;
// Only a script run by `vm` can be stopped from outside while it matches.
const call = new Script('task()');

/**
 * Runs a task that matches patterns on the names of so many modules; without a limit, one pattern could hold the process for ever.
 * @param where the modules are, for messages
 * @throws ConfigError where it takes too long
 */
export function withinTime<T>(task: () => T, modules: number, where: string): T {
  try {
    return call.runInContext(createContext({ task }), {
      timeout: TIME_MS + TIME_MS_PER_MODULE * modules,
    }) as T;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException | null)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw cause;
    throw new ConfigError(
      `${where}: a pattern by which quantization_config names modules takes too long on the names of these ${modules}`,
      { cause },
    );
  }
}
