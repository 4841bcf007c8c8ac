import { expected, InputError } from '../errors.ts';
import { disownPromise } from './disown.ts';

/**
 * Which tokens may come next in one row, as of a grammar. Asked about candidates, best first, until enough of them are allowed; about all
 * tokens only where the likeliest do not suffice.
 */
export interface TokenConstraint {
  /** Whether the token may come next. Changes nothing. An end token is asked about like any other. */
  allows(id: number): boolean;
  /** The token has been chosen. */
  advance(id: number): void;
  /** Whether nothing may follow: the row ends, with the reason `stop`. */
  readonly isComplete: boolean;
  /** All tokens that may come next, for a constraint that can list them faster than by asking about each. */
  allowed?(): Iterable<number>;
  /**
   * Tokens that will come next, as far as that is clear, such as those of text that has to stand here. One pass takes them in together; each
   * counts only where it is what would have been chosen, so that they change nothing but the time.
   */
  draft?(): readonly number[];
}

/** Makes the constraint of a row, which starts with the first new token. */
export type ConstraintFactory = (row: number) => TokenConstraint;

/** Lists of allowed tokens may name a token more than once, but end. */
const MOST_TIMES = 8;

/**
 * A caller's constraints, whose answers are checked: what is awaited nowhere would hold for true.
 * @throws InputError in place of an answer that is none
 */
export function checkedConstraints(make: ConstraintFactory, vocabSize: number): ConstraintFactory {
  return (row) => {
    const own: unknown = make(row);
    assertConstraint(own, row);
    const { allowed, draft } = own;
    return {
      allows: (id) => atOnce(own.allows(id), 'allows'),
      advance: (id) => void atOnce(own.advance(id), 'advance'),
      get isComplete() {
        return atOnce(own.isComplete, 'isComplete');
      },
      ...(allowed && { allowed: () => checkedIds(allowed.call(own), vocabSize) }),
      ...(draft && { draft: () => checkedDraft(draft.call(own), vocabSize) }),
    };
  };
}

function assertConstraint(own: unknown, row: number): asserts own is TokenConstraint {
  disownPromise(own);
  const { allows, advance, allowed, draft } = (own ?? {}) as Partial<Record<keyof TokenConstraint, unknown>>;
  const areOptional = [allowed, draft].every((one) => one === undefined || typeof one === 'function');
  if (typeof allows === 'function' && typeof advance === 'function' && areOptional) return;
  throw new InputError(
    expected(
      `What constraint returned for row ${row}`,
      own,
      'an object with the methods allows and advance, and isComplete',
    ),
  );
}

function atOnce<T>(answer: T, name: string): T {
  if (!disownPromise(answer)) return answer;
  throw new InputError(`constraint: ${name} gave a promise; expected an answer at once`);
}

function* checkedIds(ids: Iterable<number>, vocabSize: number): Iterable<number> {
  atOnce(ids, 'allowed');
  if (typeof (ids as Iterable<number> | undefined)?.[Symbol.iterator] !== 'function')
    throw new InputError(expected('constraint: what allowed returned', ids, 'a list of token ids'));
  let count = 0;
  for (const id of ids) {
    if (++count > MOST_TIMES * vocabSize)
      throw new InputError(
        `constraint: allowed has named ${count} tokens of ${vocabSize} and goes on; expected each once`,
      );
    yield id;
  }
}

function checkedDraft(ids: readonly number[], vocabSize: number): readonly number[] {
  atOnce(ids, 'draft');
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
  if (Array.isArray(ids) && ids.every(isId)) return ids;
  throw new InputError(expected('constraint: what draft returned', ids, `a list of ids below ${vocabSize}`));
}
