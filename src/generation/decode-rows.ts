import { abortIf } from '../errors.ts';
import { draftOf } from './drafts.ts';
import type { GenerationRun } from './generation-run.ts';
import { guided } from './guidance.ts';
import { logprobsOf } from './logprobs.ts';
import type { Row } from './row.ts';
import { type RowScores, TokenChoice } from './token-choice.ts';
import type { Decoding, Scores } from './types.ts';

/**
 * Greedy decoding and sampling: all rows go on together, each by itself, a token a step, or several where guesses at what follows were right.
 */
export async function decodeRows(run: GenerationRun, decoding: Decoding): Promise<void> {
  const { signal, parameters, prompts, parents, vocabSize, budget, constraint } = run.plan;
  const choice = new TokenChoice(parameters, vocabSize, budget, constraint !== undefined);
  const isGuided = parameters.guidanceScale !== 1;
  // With guidance the negative prompts are as many rows more, behind the others.
  const withTwins = (rows: readonly number[], count: number) =>
    isGuided ? [...rows, ...rows.map((row) => row + count)] : rows;
  const candidates = isGuided ? 0 : choice.candidates;
  let scores = await run.prefill(decoding, candidates);
  // Rows that continue one prompt begin with its scores, and then go their own ways.
  if (parents.length > prompts.rows.length) decoding.fork(withTwins(parents, prompts.rows.length));
  let places: readonly number[] = parents;
  let twins = prompts.rows.length;
  let live = run.rows;
  let drafts: readonly (readonly number[])[] = [];
  for (;;) {
    abortIf(signal, 'generation');
    for (const [i, row] of live.entries()) {
      const scoresAt = (place: number) => {
        const own = rowScores(scores, place, vocabSize);
        const negative = () => rowScores(scores, place + twins, vocabSize);
        return isGuided ? guided(own, negative(), parameters.guidanceScale) : own;
      };
      const guesses = drafts[i] ?? [];
      const accepted = await acceptTokens(run, choice, row, scoresAt, places[i] as number, guesses);
      run.drafted(guesses.length, accepted);
      if (guesses.length === 0) continue;
      for (const twin of withTwins([row.index], parents.length))
        decoding.takeBack(twin, guesses.length - accepted);
    }
    run.endLateRows();
    live = live.filter((row) => row.finish === undefined);
    if (live.length === 0) return;
    drafts = live.map((row) => draftOf(row, run.plan));
    const fed = live.map((row, i) => [row.tokens.at(-1) as number, ...(drafts[i] as readonly number[])]);
    [places, twins] = placesOf(fed);
    abortIf(signal, 'generation');
    const indices = live.map(({ index }) => index);
    const tokens = isGuided ? [...fed, ...fed] : fed;
    scores = await decoding.step(withTwins(indices, parents.length), tokens, candidates, signal);
  }
}

/**
 * Chooses tokens as long as the guesses are right, and the one after them.
 * @param first where the scores of the row begin
 * @returns how many were right
 */
async function acceptTokens(
  run: GenerationRun,
  choice: TokenChoice,
  row: Row,
  scoresAt: (place: number) => RowScores,
  first: number,
  guesses: readonly number[],
): Promise<number> {
  for (let right = 0; ; right++) {
    const token = await chooseToken(run, choice, row, scoresAt(first + right));
    await run.accept(row, token);
    if (right === guesses.length || token !== guesses[right]) return right;
    if (row.finish !== undefined) return right + 1;
  }
}

/** Where the scores of each row begin, of which each has as many as it is fed tokens; and how many there are. */
function placesOf(fed: readonly (readonly number[])[]): [number[], number] {
  let end = 0;
  const places = fed.map(({ length }) => {
    end += length;
    return end - length;
  });
  return [places, end];
}

/** The next token of a row, with its log-probabilities where they are asked for. */
async function chooseToken(
  { plan }: GenerationRun,
  choice: TokenChoice,
  row: Row,
  scores: RowScores,
): Promise<number> {
  const token = row.forcedToken ?? (await choice.choose(scores, row));
  const { logprobs } = plan.parameters;
  if (logprobs !== undefined)
    row.logprobs.push(logprobsOf(await scores.logits(), token, logprobs, plan.tokenizer));
  return token;
}

/** The scores that a pass gave for the row at `place`. */
function rowScores({ top, logits }: Scores, place: number, vocabSize: number): RowScores {
  const ofRow = <T extends Float32Array | Int32Array>(all: T, width: number) =>
    all.subarray(place * width, (place + 1) * width) as T;
  return {
    values: ofRow(top.values, top.count),
    ids: ofRow(top.ids, top.count),
    logits: async () => ofRow(await logits(), vocabSize),
  };
}
