import { expected, InputError, show } from '../errors.ts';
import { disownPromise } from './disown.ts';
import { IdsViews } from './ids-view.ts';
import type { LogitsProcessor, PrefixAllowedTokensFn } from './parameters.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';
import { allowingOnly, forbidding, type ScoreEdit, type WholeEdit } from './score-edits.ts';

/** What processors know of a row. */
export interface RowHistory {
  /** Position of the row in the batch. */
  readonly index: number;
  /** Prompt without padding, then the new tokens. */
  readonly tokens: readonly number[];
  /** Tokens of the prompt. */
  readonly promptLength: number;
  /** The distinct ids among `tokens`. */
  readonly seen: ReadonlySet<number>;
  /** How often each id is among the new tokens. */
  readonly counts: ReadonlyMap<number, number>;
}

/** Says what to change of the scores of a row's next token. */
export interface ScoreProcessor {
  /** Whether it changes all scores, or raises some, before every token. */
  readonly needsAll: boolean;
  /** Nothing where it changes none this time. */
  edit(row: RowHistory): ScoreEdit | WholeEdit | undefined;
}

/**
 * The processors that hold for greedy decoding and sampling alike, in transformers' order: bias, repetition penalty, n-grams, bad words,
 * minimum length, minimum of new tokens, allowed by prefix, forced end token, invalid values, decay, suppressed tokens, the caller's own.
 * OpenAI's penalties, which transformers lacks, follow the repetition penalty. Those without effect are left out.
 * Source: transformers `generation/utils.py`, `_get_logits_processor`.
 * @param budget new tokens that a row may have
 * @param vocabSize ids that there are
 */
export function scoreProcessors(
  parameters: ResolvedParameters,
  budget = Infinity,
  vocabSize = Infinity,
): ScoreProcessor[] {
  const { eosTokenIds, minLength, minNewTokens, sequenceBias } = parameters;
  const { suppressTokens, beginSuppressTokens, forcedEosTokenIds, prefixAllowedTokensFn } = parameters;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, noRepeatNgramSize } = parameters;
  const decay = parameters.exponentialDecayLengthPenalty;
  const badWords = parameters.badWordsIds.filter(
    (word) => !(word.length === 1 && eosTokenIds.includes(word[0] as number)),
  );
  const ends = new Set(eosTokenIds);
  const chain: ScoreProcessor[] = [];
  const add = (isActive: boolean, edit: ScoreProcessor['edit'], needsAll = false) => {
    if (isActive) chain.push({ needsAll, edit });
  };
  add(
    sequenceBias.length > 0,
    (row) => biasing(row.tokens, sequenceBias),
    sequenceBias.some(([ids, bias]) => ids.length === 1 && bias > 0),
  );
  add(
    repetitionPenalty !== 1,
    (row) => penalizingRepetition(row.seen, repetitionPenalty),
    repetitionPenalty < 1,
  );
  add(
    presencePenalty !== 0 || frequencyPenalty !== 0,
    (row) => penalizingCounts(row.counts, presencePenalty, frequencyPenalty),
    presencePenalty < 0 || frequencyPenalty < 0,
  );
  add(noRepeatNgramSize > 0, (row) => forbidding(repeatedNgrams(row.tokens, noRepeatNgramSize)));
  add(badWords.length > 0, (row) => forbidding(endsOf(row.tokens, badWords)));
  add(eosTokenIds.length > 0 && (minLength > 0 || minNewTokens > 0), (row) =>
    row.tokens.length < minLength || newTokens(row) < minNewTokens ? forbidding(ends) : undefined,
  );
  if (prefixAllowedTokensFn) {
    const views = new IdsViews();
    add(true, (row) =>
      allowingOnly(new Set(runAllowed(prefixAllowedTokensFn, row, views.of(row), vocabSize))),
    );
  }
  add(forcedEosTokenIds.length > 0, (row) =>
    newTokens(row) === budget - 1 ? forcing(forcedEosTokenIds) : undefined,
  );
  add(parameters.removeInvalidValues, () => ({ changeAll: removeInvalid }), true);
  if (decay !== undefined && eosTokenIds.length > 0)
    add(true, (row) => {
      const late = newTokens(row) - decay[0];
      return late > 0 ? raisingWithLength(ends, late, decay[1]) : undefined;
    });
  const suppressed = new Set(suppressTokens);
  add(suppressed.size > 0, () => forbidding(suppressed));
  const suppressedFirst = new Set(beginSuppressTokens);
  add(suppressedFirst.size > 0, (row) => (newTokens(row) === 0 ? forbidding(suppressedFirst) : undefined));
  for (const [i, own] of parameters.logitsProcessors.entries()) {
    const views = new IdsViews();
    const name = `logitsProcessors[${i}]`;
    add(
      true,
      (row) => ({ changeAll: (scores) => runOwn(own, name, scores, row.index, views.of(row)) }),
      true,
    );
  }
  return chain;
}

const newTokens = (row: RowHistory) => row.tokens.length - row.promptLength;

/** A processor of the caller's gets ids of its own, and must leave its result in the scores. */
function runOwn(
  own: LogitsProcessor,
  name: string,
  scores: Float32Array,
  row: number,
  tokens: readonly number[],
): void {
  const { length } = scores;
  const result: unknown = own(tokens, scores, row);
  if (result !== undefined && result !== scores) {
    disownPromise(result);
    throw new InputError(`${name} returned ${show(result)}; expected it to change scores in place, at once`);
  }
  if (scores.length !== length)
    throw new InputError(`${name} gave the memory of scores away; expected it to keep it`);
}

/** What the caller's function allows. Source: `PrefixConstrainedLogitsProcessor`. */
function runAllowed(
  allowed: PrefixAllowedTokensFn,
  { index }: RowHistory,
  tokens: readonly number[],
  vocabSize: number,
): readonly number[] {
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
  const ids: unknown = allowed(tokens, index);
  if (Array.isArray(ids) && ids.length > 0 && ids.every(isId)) return ids;
  disownPromise(ids);
  throw new InputError(
    expected(
      `What prefixAllowedTokensFn returned for row ${index}`,
      ids,
      `a list of token ids below ${vocabSize}, at least one`,
    ),
  );
}

/** Adds to the last token of each sequence whose other tokens end `tokens`. Source: `SequenceBiasLogitsProcessor`. */
function biasing(
  tokens: readonly number[],
  biases: ResolvedParameters['sequenceBias'],
): ScoreEdit | undefined {
  const bias = new Map<number, number>();
  for (const [ids, value] of biases) {
    if (!isEndOf(ids, tokens)) continue;
    const last = ids.at(-1) as number;
    bias.set(last, (bias.get(last) ?? 0) + value);
  }
  if (bias.size === 0) return undefined;
  const lowers = [...bias.values()].every((value) => value <= 0);
  return { ids: bias, lowers, change: (score, id) => score + (bias.get(id) as number) };
}

/**
 * Divides positive logits of the given ids by `penalty` and multiplies negative ones.
 * Source: transformers `RepetitionPenaltyLogitsProcessor`; Keskar et al., "CTRL" (2019), section 4.1.
 */
function penalizingRepetition(seen: ReadonlySet<number>, penalty: number): ScoreEdit {
  return {
    ids: seen,
    lowers: penalty >= 1,
    change: (score) => (score < 0 ? score * penalty : score / penalty),
  };
}

/**
 * Takes `presence` from the logit of every new token, and `frequency` for each time it has come.
 * Source: OpenAI API reference, "presence and frequency penalties".
 */
function penalizingCounts(
  counts: ReadonlyMap<number, number>,
  presence: number,
  frequency: number,
): ScoreEdit | undefined {
  if (counts.size === 0) return undefined;
  return {
    ids: counts,
    lowers: presence >= 0 && frequency >= 0,
    change: (score, id) => score - (presence + frequency * (counts.get(id) as number)),
  };
}

/** Leaves no choice but these ids. Source: `ForcedEOSTokenLogitsProcessor`. */
function forcing(ids: readonly number[]): WholeEdit {
  return {
    changeAll: (scores) => {
      scores.fill(-Infinity);
      for (const id of ids) if (id < scores.length) scores[id] = 0;
    },
  };
}

/** The largest finite fp32 number. */
const LARGEST = 3.4028234663852886e38;

/** Source: transformers `InfNanRemoveLogitsProcessor`. */
function removeInvalid(scores: Float32Array): void {
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (!Number.isFinite(score)) scores[id] = Number.isNaN(score) ? 0 : score > 0 ? LARGEST : -LARGEST;
  }
}

/** Source: transformers `ExponentialDecayLengthPenalty`. @param late tokens since it started */
function raisingWithLength(ids: ReadonlySet<number>, late: number, factor: number): ScoreEdit {
  return {
    ids,
    lowers: factor <= 1,
    change: (score) => score + Math.abs(score) * (factor ** late - 1),
  };
}

/** Tokens that would complete an n-gram already in `tokens`. Source: `NoRepeatNGramLogitsProcessor`. */
function repeatedNgrams(tokens: readonly number[], size: number): Set<number> {
  const prefixStart = tokens.length - (size - 1);
  const found = new Set<number>();
  for (let start = 0; start + size <= tokens.length; start++)
    if (matches(tokens, start, prefixStart, size - 1)) found.add(tokens[start + size - 1] as number);
  return found;
}

/** The last token of each sequence whose other tokens end `tokens`. Source: `NoBadWordsLogitsProcessor`. */
function endsOf(tokens: readonly number[], words: readonly (readonly number[])[]): Set<number> {
  return new Set(words.filter((word) => isEndOf(word, tokens)).map((word) => word.at(-1) as number));
}

/** Whether all but the last of `sequence` ends `tokens`. */
function isEndOf(sequence: readonly number[], tokens: readonly number[]): boolean {
  const start = tokens.length - (sequence.length - 1);
  return start >= 0 && sequence.every((id, i) => i === sequence.length - 1 || id === tokens[start + i]);
}

function matches(tokens: readonly number[], a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (tokens[a + i] !== tokens[b + i]) return false;
  return true;
}
