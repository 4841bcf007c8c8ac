import type { ResolvedParameters } from './generation-config.ts';

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
 * The processors that hold for greedy decoding and sampling alike, in transformers' order: repetition penalty,
 * n-grams, bad words, minimum length, minimum of new tokens, the caller's own. Those without effect are left out.
 * Source: transformers `generation/utils.py`, `_get_logits_processor`.
 */
export function scoreProcessors(parameters: ResolvedParameters): ScoreProcessor[] {
  const { repetitionPenalty, noRepeatNgramSize, eosTokenIds, minLength, minNewTokens } = parameters;
  const badWords = parameters.badWordsIds.filter(
    (word) => !(word.length === 1 && eosTokenIds.includes(word[0] as number)),
  );
  const chain: ScoreProcessor[] = [];
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
  for (const own of parameters.logitsProcessors)
    chain.push((scores, row) => own(row.tokens, scores, row.index));
  return chain;
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
    const start = tokens.length - (word.length - 1);
    if (start < 0) continue;
    const ends = word.every((id, i) => i === word.length - 1 || id === tokens[start + i]);
    if (ends) forbid(scores, [word.at(-1) as number]);
  }
}

/** Sets the logits of these ids to −∞; ids outside the vocabulary have none. */
export function forbid(scores: Float32Array, ids: Iterable<number>): void {
  for (const id of ids) if (id < scores.length) scores[id] = -Infinity;
}

function matches(tokens: readonly number[], a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (tokens[a + i] !== tokens[b + i]) return false;
  return true;
}
