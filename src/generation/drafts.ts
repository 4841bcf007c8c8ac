import type { Plan } from './plan.ts';
import type { Row } from './row.ts';

/** Tokens of forced text that one pass takes in at most. */
const MOST_FORCED = 32;

/**
 * Guesses at what follows a row's last token, for the next pass to take in with it: the text that a constraint leaves no choice about, else
 * with `promptLookupNumTokens` what followed the last tokens where they stood before. Each counts only where it is what would have been
 * chosen, so that guesses change nothing but the time.
 * Source: transformers `PromptLookupCandidateGenerator`; Saxena, "Prompt Lookup Decoding" (2023).
 */
export function draftOf(row: Row, { parameters, budget }: Plan): readonly number[] {
  const room = budget - (row.tokens.length - row.promptLength) - 1;
  if (room <= 0) return [];
  const { promptLookupNumTokens = 0, maxMatchingNgramSize, eosTokenIds } = parameters;
  const forced = row.constraint?.draft?.() ?? [];
  const guesses =
    forced.length > 0
      ? forced.slice(0, Math.min(MOST_FORCED, room))
      : lookUp(row.tokens, maxMatchingNgramSize, Math.min(promptLookupNumTokens, room));
  const end = guesses.findIndex((id) => eosTokenIds.includes(id));
  return end === -1 ? guesses : guesses.slice(0, end);
}

/**
 * Up to `most` tokens that followed the row's last ones, at most `size` of these, where they first stood before; the longest match counts.
 */
export function lookUp(tokens: readonly number[], size: number, most: number): number[] {
  if (most <= 0) return [];
  for (let length = Math.min(size, tokens.length - 1); length > 0; length--) {
    const end = tokens.length - length;
    for (let start = 0; start < end; start++) {
      let same = 0;
      while (same < length && tokens[start + same] === tokens[end + same]) same++;
      if (same === length) return tokens.slice(start + length, start + length + most);
    }
  }
  return [];
}
