import { createContext, Script } from 'node:vm';
import { toRegExp } from 'oniguruma-to-es';
import * as z from 'zod';
import { TokenizerError } from '../../errors.ts';

/** `pattern` of a normalizer or pre-tokenizer: an expression of Oniguruma, or a text as it stands. */
export const patternSchema = z.union(
  [z.strictObject({ Regex: z.string() }), z.strictObject({ String: z.string() })],
  'expected { Regex: string } or { String: string }',
);
export type Pattern = z.output<typeof patternSchema>;

const LONGEST_PATTERN = 20_000;

/**
 * A pattern as a regular expression of this language, global.
 *
 * @param field names the pattern in messages
 * @throws {TokenizerError} the pattern is malformed, or has no counterpart.
 */
export function compilePattern(pattern: Pattern, field: string): RegExp {
  const source = 'Regex' in pattern ? pattern.Regex : pattern.String.replace(/[$()*+.?[\\\]^{|}]/g, '\\$&');
  if (source.length > LONGEST_PATTERN) {
    throw new TokenizerError(`${field} has ${source.length} characters; the limit is ${LONGEST_PATTERN}.`);
  }
  if ('String' in pattern) return new RegExp(source, 'gu');
  try {
    return toRegExp(source, { global: true, target: 'ES2024' });
  } catch (error) {
    throw new TokenizerError(`${field} cannot be used: ${(error as Error).message}.`, { cause: error });
  }
}

/** Where a pattern occurs, in order; an empty occurrence has equal ends. */
export function* occurrences(
  pattern: RegExp,
  text: string,
): Generator<readonly [start: number, end: number]> {
  pattern.lastIndex = 0;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    const { lastIndex } = pattern;
    yield [match.index, match.index + match[0].length];
    // Several texts may be gone through in turn.
    pattern.lastIndex =
      match[0] === '' ? lastIndex + ((text.codePointAt(lastIndex) ?? 0) > 0xffff ? 2 : 1) : lastIndex;
  }
}

// A pattern comes with the checkpoint, from strangers, and may take for ever on a short text.
const TIME_MS = 2_000;
const TIME_MS_PER_CHARACTER = 0.002;

// Only a script run by `vm` can be stopped from outside while it matches; this one calls whatever `task` is.
const call = new Script('task()');
let realm: { task?: () => unknown } | undefined;

/**
 * Runs a task that matches patterns on a text, with a limit on its time.
 *
 * @param file where the patterns come from, for messages
 * @throws {TokenizerError} the task takes longer than 2 s (and 2 ms for each 1,000 characters), or a pattern fails.
 */
export function withinTime<T>(task: () => T, text: string, file: string): T {
  realm ??= createContext({}) as { task?: () => unknown };
  const around = realm.task;
  realm.task = task;
  const timeout = Math.ceil(TIME_MS + TIME_MS_PER_CHARACTER * text.length);
  try {
    return call.runInContext(realm, { timeout }) as T;
  } catch (error) {
    // The error of a timeout belongs to the script's own realm, so it is no instance of our `Error`.
    const isLate = (error as NodeJS.ErrnoException | null)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
    if (!isLate && !(error instanceof RangeError)) throw error;
    const reason = isLate ? `take more than ${timeout / 1000} s` : 'need too much memory';
    throw new TokenizerError(
      `The patterns of ${file} ${reason} on a text of ${text.length} characters: use the tokenizer.json that the ` +
        'model was published with, or give the text in parts.',
      { cause: error },
    );
  } finally {
    if (around === undefined) delete realm.task;
    else realm.task = around;
  }
}
