import { abortIf } from '../errors.ts';
import { chooseToken, rowScores } from './decode-rows.ts';
import type { GenerationRun } from './generation-run.ts';
import type { Row } from './row.ts';
import { TokenChoice } from './token-choice.ts';
import type { Decoding, Scores } from './types.ts';

/**
 * Prompt lookup decoding of one row: what followed the row's last tokens where they stood before is taken for what follows now, and several
 * such guesses run in one pass. Each token is chosen from its own scores, by the row's own draws, so that guesses change nothing but the time.
 * Source: transformers `PromptLookupCandidateGenerator`; Saxena, "Prompt Lookup Decoding" (2023).
 */
export async function decodeWithLookup(run: GenerationRun, decoding: Decoding): Promise<void> {
  const { signal, parameters, vocabSize, budget, constraint } = run.plan;
  const choice = new TokenChoice(parameters, vocabSize, budget, constraint !== undefined);
  const row = run.rows[0] as Row;
  let scores = await run.prefill(decoding, choice.candidates);
  let guesses: readonly number[] = [];
  for (;;) {
    abortIf(signal, 'generation');
    const accepted = await acceptTokens(run, choice, row, scores, guesses);
    run.drafted(guesses.length, accepted);
    run.endLateRows();
    if (guesses.length > 0) decoding.takeBack(guesses.length - accepted);
    if (row.finish !== undefined) return;
    const most = Math.min(parameters.promptLookupNumTokens ?? 0, budget - row.newTokens.length - 1);
    guesses = untilEnd(lookUp(row.tokens, parameters.maxMatchingNgramSize, most), parameters.eosTokenIds);
    abortIf(signal, 'generation');
    scores = await decoding.verify([row.tokens.at(-1) as number, ...guesses], choice.candidates, signal);
  }
}

/**
 * Chooses tokens as long as the guesses are right, and the one after them.
 * @returns how many were right
 */
async function acceptTokens(
  run: GenerationRun,
  choice: TokenChoice,
  row: Row,
  scores: Scores,
  guesses: readonly number[],
): Promise<number> {
  for (let place = 0; ; place++) {
    const token = await chooseToken(run, choice, row, rowScores(scores, place, run.plan.vocabSize));
    await run.accept(row, token);
    const isRight = place < guesses.length && token === guesses[place];
    if (!isRight) return place;
    if (row.finish !== undefined) return place + 1;
  }
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

/** What stands before the first end token. */
function untilEnd(ids: readonly number[], ends: readonly number[]): readonly number[] {
  const at = ids.findIndex((id) => ends.includes(id));
  return at === -1 ? ids : ids.slice(0, at);
}
