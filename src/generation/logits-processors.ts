import { InputError, show } from '../errors.ts';
import { IdsViews } from './ids-view.ts';
import type { LogitsProcessor } from './parameters.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';

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
}

/** Changes the logits of one row in place. */
export type ScoreProcessor = (scores: Float32Array, row: RowHistory) => void;

/**
 * The processors that hold for greedy decoding and sampling alike, in transformers' order: bias, repetition penalty, n-grams, bad words,
 * minimum length, minimum of new tokens, forced end token, invalid values, decay, suppressed tokens, the caller's own. Those without
 * effect are left out.
 * Source: transformers `generation/utils.py`, `_get_logits_processor`.
 * @param budget new tokens that a row may have
 */
export function scoreProcessors(parameters: ResolvedParameters, budget = Infinity): ScoreProcessor[] {
  const { repetitionPenalty, noRepeatNgramSize, eosTokenIds, minLength, minNewTokens } = parameters;
  const { sequenceBias, suppressTokens, beginSuppressTokens, forcedEosTokenIds } = parameters;
  const decay = parameters.exponentialDecayLengthPenalty;
  const badWords = parameters.badWordsIds.filter(
    (word) => !(word.length === 1 && eosTokenIds.includes(word[0] as number)),
  );
  const chain: ScoreProcessor[] = [];
  if (sequenceBias.length > 0) chain.push((scores, row) => addBias(scores, row.tokens, sequenceBias));
  if (repetitionPenalty !== 1)
    chain.push((scores, row) => penalizeRepetition(scores, row.seen, repetitionPenalty));
  if (noRepeatNgramSize > 0)
    chain.push((scores, row) => forbidRepeatedNgrams(scores, row.tokens, noRepeatNgramSize));
  if (badWords.length > 0) chain.push((scores, row) => forbidBadWords(scores, row.tokens, badWords));
  if (eosTokenIds.length > 0 && (minLength > 0 || minNewTokens > 0)) {
    chain.push((scores, row) => {
      const { length } = row.tokens;
      if (length < minLength || length - row.promptLength < minNewTokens) forbid(scores, eosTokenIds);
    });
  }
  if (forcedEosTokenIds.length > 0)
    chain.push((scores, row) => {
      if (newTokens(row) === budget - 1) force(scores, forcedEosTokenIds);
    });
  if (parameters.removeInvalidValues) chain.push(removeInvalid);
  if (decay !== undefined && eosTokenIds.length > 0)
    chain.push((scores, row) => raiseWithLength(scores, eosTokenIds, newTokens(row) - decay[0], decay[1]));
  if (suppressTokens.length > 0) chain.push((scores) => forbid(scores, suppressTokens));
  if (beginSuppressTokens.length > 0)
    chain.push((scores, row) => {
      if (newTokens(row) === 0) forbid(scores, beginSuppressTokens);
    });
  for (const [i, own] of parameters.logitsProcessors.entries()) {
    const views = new IdsViews();
    chain.push((scores, row) => runOwn(own, `logitsProcessors[${i}]`, scores, row.index, views.of(row)));
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
  if (result !== undefined && result !== scores)
    throw new InputError(`${name} returned ${show(result)}; expected it to change scores in place, at once`);
  if (scores.length !== length)
    throw new InputError(`${name} gave the memory of scores away; expected it to keep it`);
}

/** Adds to the last token of each sequence whose other tokens end `tokens`. Source: `SequenceBiasLogitsProcessor`. */
export function addBias(
  scores: Float32Array,
  tokens: readonly number[],
  biases: ResolvedParameters['sequenceBias'],
): void {
  const bias = new Map<number, number>();
  for (const [ids, value] of biases) {
    if (!isEndOf(ids, tokens)) continue;
    const last = ids.at(-1) as number;
    bias.set(last, (bias.get(last) ?? 0) + value);
  }
  for (const [id, value] of bias) if (id < scores.length) scores[id] = (scores[id] as number) + value;
}

/** Leaves no choice but these ids. Source: `ForcedEOSTokenLogitsProcessor`. */
function force(scores: Float32Array, ids: readonly number[]): void {
  scores.fill(-Infinity);
  for (const id of ids) if (id < scores.length) scores[id] = 0;
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
function raiseWithLength(scores: Float32Array, ids: readonly number[], late: number, factor: number): void {
  if (late <= 0) return;
  for (const id of ids) {
    if (id >= scores.length) continue;
    const score = scores[id] as number;
    scores[id] = score + Math.abs(score) * (factor ** late - 1);
  }
}

/**
 * Divides positive logits of the given ids by `penalty` and multiplies negative ones.
 * Source: transformers `RepetitionPenaltyLogitsProcessor`; Keskar et al., "CTRL" (2019), section 4.1.
 */
export function penalizeRepetition(scores: Float32Array, seen: Iterable<number>, penalty: number): void {
  for (const id of seen) {
    const score = scores[id] as number;
    scores[id] = score < 0 ? score * penalty : score / penalty;
  }
}

/** Forbids every token that would complete an n-gram already in `tokens`. Source: `NoRepeatNGramLogitsProcessor`. */
export function forbidRepeatedNgrams(scores: Float32Array, tokens: readonly number[], size: number): void {
  const prefixStart = tokens.length - (size - 1);
  for (let start = 0; start + size <= tokens.length; start++) {
    if (matches(tokens, start, prefixStart, size - 1)) scores[tokens[start + size - 1] as number] = -Infinity;
  }
}

/** Forbids the last token of each sequence whose other tokens end `tokens`. Source: `NoBadWordsLogitsProcessor`. */
export function forbidBadWords(
  scores: Float32Array,
  tokens: readonly number[],
  words: readonly (readonly number[])[],
): void {
  for (const word of words) {
    if (isEndOf(word, tokens)) forbid(scores, [word.at(-1) as number]);
  }
}

/** Whether all but the last of `sequence` ends `tokens`. */
function isEndOf(sequence: readonly number[], tokens: readonly number[]): boolean {
  const start = tokens.length - (sequence.length - 1);
  return start >= 0 && sequence.every((id, i) => i === sequence.length - 1 || id === tokens[start + i]);
}

/** Sets the logits of these ids to −∞; ids outside the vocabulary have none. */
export function forbid(scores: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) if (id < scores.length) scores[id] = -Infinity;
}

function matches(tokens: readonly number[], a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (tokens[a + i] !== tokens[b + i]) return false;
  return true;
}
