import { abortIf } from '../errors.ts';
import type { GenerationRun } from './generation-run.ts';
import { guided } from './guidance.ts';
import { logprobsOf } from './logprobs.ts';
import type { Row } from './row.ts';
import { type RowScores, TokenChoice } from './token-choice.ts';
import type { Decoding, Scores } from './types.ts';

/** Greedy decoding and sampling: all rows go on together, each by itself, a token a step. */
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
  for (;;) {
    abortIf(signal, 'generation');
    for (const [i, row] of live.entries()) {
      const place = places[i] as number;
      const own = rowScores(scores, place, vocabSize);
      const negative = () => rowScores(scores, place + twins, vocabSize);
      const ofRow = isGuided ? guided(own, negative(), parameters.guidanceScale) : own;
      await run.accept(row, await chooseToken(run, choice, row, ofRow));
    }
    run.endLateRows();
    live = live.filter((row) => row.finish === undefined);
    if (live.length === 0) return;
    places = [...live.keys()];
    twins = live.length;
    abortIf(signal, 'generation');
    const tokens = live.map((row) => row.tokens.at(-1) as number);
    const indices = live.map(({ index }) => index);
    const fed = isGuided ? [...tokens, ...tokens] : tokens;
    scores = await decoding.step(withTwins(indices, parents.length), fed, candidates, signal);
  }
}

/** The next token of a row, with its log-probabilities where they are asked for. */
export async function chooseToken(
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
export function rowScores({ top, logits }: Scores, place: number, vocabSize: number): RowScores {
  const ofRow = <T extends Float32Array | Int32Array>(all: T, width: number) =>
    all.subarray(place * width, (place + 1) * width) as T;
  return {
    values: ofRow(top.values, top.count),
    ids: ofRow(top.ids, top.count),
    logits: async () => ofRow(await logits(), vocabSize),
  };
}
