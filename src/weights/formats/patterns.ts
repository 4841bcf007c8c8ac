/** Patterns by which settings name modules: a stranger wrote them, for Python's `re`. */
import { createContext, Script } from 'node:vm';
import { ConfigError, show } from '../../errors.ts';

/** For all modules of a checkpoint together; real lists take a few milliseconds. */
const TIME_MS = 2_000;
// Only a script run by `vm` can be stopped from outside while it matches.
const call = new Script('test()');

/** Matches names with the patterns of one checkpoint's settings, within a limit of time. */
export class Patterns {
  readonly #where: string;
  readonly #compiled = new Map<string, RegExp>();
  readonly #realm: { test?: () => boolean } = createContext({});
  #left = TIME_MS;

  /** @param where the patterns stand, for messages */
  constructor(where: string) {
    this.#where = where;
  }

  /** Whether a pattern matches from the start of a name: `re.match`. @throws ConfigError */
  matches(pattern: string, name: string): boolean {
    return this.#test(`^(?:${pattern})`, name);
  }

  /** Whether a pattern occurs in a name: `re.search`. @throws ConfigError */
  occurs(pattern: string, name: string): boolean {
    return this.#test(pattern, name);
  }

  #test(source: string, name: string): boolean {
    const pattern = this.#compile(source);
    this.#realm.test = () => pattern.test(name);
    const begun = performance.now();
    try {
      return call.runInContext(this.#realm, { timeout: Math.max(1, Math.ceil(this.#left)) }) as boolean;
    } catch (cause) {
      throw new ConfigError(
        `${this.#where}: the pattern ${show(source)} takes too long on the names of the modules`,
        { cause },
      );
    } finally {
      this.#left -= performance.now() - begun;
    }
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
