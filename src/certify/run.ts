/** What is looked at when a model is compared with itself or with another implementation: a few prompts, and what comes of them. */

/** Lengths of the prompts: a single token, one pass of few, and one that fills blocks of caches unevenly. */
const PROMPT_LENGTHS = [1, 16, 41];
/** Entries of the vocabulary whose logits are kept. */
const SAMPLED_IDS = 64;

/** Tokens that are generated greedily after each prompt. */
export const NEW_TOKENS = 8;

/** What one way of running a model gives; also what a reference file holds. */
export interface Run {
  /** Such as `grouped_mm on cpu` or `transformers 5.18.0`. */
  readonly name: string;
  /** One for each prompt. */
  readonly prompts: readonly PromptRun[];
}

export interface PromptRun {
  /** Logits at each position, fp32 [tokens][ids], of `sampledIds`. */
  readonly logits: readonly (readonly number[])[];
  /** log Σ exp of all logits, by position. */
  readonly logsumexp: readonly number[];
  /** Most likely next token, by position. */
  readonly argmax: readonly number[];
  /** Chosen experts, ascending, [MoE layers][tokens][k]. */
  readonly experts: readonly (readonly (readonly number[])[])[];
  /** By how much the last expert that was chosen beat the first that was not, in router logits, [MoE layers][tokens]. */
  readonly margins: readonly (readonly number[])[];
  /** Greedy continuation. */
  readonly greedy: readonly number[];
}

/**
 * The prompts for a vocabulary: numbers of a linear congruential generator, in the lower half of the ids, where no family has its special
 * tokens. `scripts/reference.py` has the same.
 */
export function fixedPrompts(vocabSize: number): number[][] {
  let state = 1;
  const next = () => {
    state = (state * 48271) % 0x7fffffff;
    return state % Math.max(1, vocabSize >> 1);
  };
  return PROMPT_LENGTHS.map((length) => Array.from({ length }, next));
}

/** Ids spread evenly over a vocabulary. */
export function sampledIds(vocabSize: number): number[] {
  const count = Math.min(SAMPLED_IDS, vocabSize);
  return Array.from({ length: count }, (_, i) => Math.floor((i * vocabSize) / count));
}

/** A tensor in memory. */
interface Values {
  readonly dims: readonly number[];
  getData(): Promise<unknown>;
}

/** What has to be asked of a model. */
export interface Observed {
  forward(inputs: { inputIds: number[][]; outputRouterLogits: boolean; signal: AbortSignal }): Promise<{
    readonly logits: Values;
    readonly routerLogits?: readonly Values[];
    readonly routerIndices?: readonly Values[];
  }>;
  generate(options: {
    inputIds: number[][];
    maxNewTokens: number;
    doSample: false;
    eosTokenId: number[];
    signal: AbortSignal;
  }): Promise<{ readonly sequences: number[][] }>;
}

/** Runs the prompts. */
export async function observe(
  model: Observed,
  name: string,
  prompts: readonly (readonly number[])[],
  signal: AbortSignal,
): Promise<Run> {
  const runs: PromptRun[] = [];
  for (const prompt of prompts) runs.push(await observePrompt(model, [...prompt], signal));
  return { name, prompts: runs };
}

async function observePrompt(model: Observed, prompt: number[], signal: AbortSignal): Promise<PromptRun> {
  const {
    logits,
    routerLogits = [],
    routerIndices = [],
  } = await model.forward({
    ...{ inputIds: [prompt], outputRouterLogits: true, signal },
  });
  const rows = await rowsOf(logits);
  const ids = sampledIds(rows[0]?.length ?? 0);
  const routers = await Promise.all(
    routerIndices.map(async (indices, i) => ({
      chosen: await rowsOf(indices),
      scores: await rowsOf(routerLogits[i] as Values),
    })),
  );
  const { sequences } = await model.generate({
    ...{ inputIds: [prompt], maxNewTokens: NEW_TOKENS, doSample: false, eosTokenId: [], signal },
  });
  return {
    logits: rows.map((row) => ids.map((id) => rounded(row[id] as number))),
    logsumexp: rows.map((row) => rounded(logSumExp(row))),
    argmax: rows.map(argmax),
    experts: routers.map(({ chosen }) => chosen.map((row) => Array.from(row).sort((a, b) => a - b))),
    margins: routers.map(({ chosen, scores }) =>
      chosen.map((row, token) => rounded(marginOf(scores[token] as ArrayLike<number>, row))),
    ),
    greedy: (sequences[0] as number[]).slice(prompt.length),
  };
}

type Row = Float32Array | Int32Array;

/** The rows of the last axis of a tensor [1, tokens, …]. */
async function rowsOf(tensor: Values): Promise<Row[]> {
  const data = (await tensor.getData()) as Row;
  const width = tensor.dims.at(-1) ?? 1;
  return Array.from({ length: data.length / width }, (_, i) => data.subarray(i * width, (i + 1) * width));
}

function marginOf(scores: ArrayLike<number>, chosen: ArrayLike<number>): number {
  const taken = new Set(Array.from(chosen));
  const all = Array.from(scores);
  const least = Math.min(...Array.from(taken, (expert) => all[expert] as number));
  const next = all.reduce(
    (most, score, expert) => (taken.has(expert) ? most : Math.max(most, score)),
    Number.NEGATIVE_INFINITY,
  );
  return next === Number.NEGATIVE_INFINITY ? Number.MAX_VALUE : least - next;
}

function argmax(row: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if ((row[i] as number) > (row[best] as number)) best = i;
  return best;
}

function logSumExp(row: ArrayLike<number>): number {
  const most = row[argmax(row)] as number;
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp((row[i] as number) - most);
  return most + Math.log(sum);
}

/** Digits that an fp32 number has; more would only make files long. */
const rounded = (value: number) => Number(value.toPrecision(8));
