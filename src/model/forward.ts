import { type ChunkResult, prefill } from '../engine/prefill.ts';
import type { DecoderRuntime } from '../engine/runner.ts';
import type { Prompt } from '../engine/sequence.ts';
import type { BackendReader } from '../engine/tuning/policy.ts';
import { InputError, show } from '../errors.ts';
import { Tensor } from '../runtime/ort.ts';

/** Arguments of a `forward` call. Rows of `inputIds` are padded on the left to one length. */
export interface ForwardInputs {
  inputIds: number[][];
  /** 1 for a token, 0 for padding on its left; without it every position is a token. */
  attentionMask?: number[][];
  /** Logits of the last N positions only; 0, the default, means all. */
  logitsToKeep?: number;
  outputHiddenStates?: boolean;
  outputRouterLogits?: boolean;
  /** Backend of this call alone. */
  expertsImplementation?: string | Readonly<Record<string, string | null>>;
  signal?: AbortSignal;
}

/** Intermediates of a `forward` call; values at padded positions are zero. */
export interface Intermediates {
  /** Embeddings, then the output of every layer; the last entry is after the final norm. fp32 [batch, positions, hidden] each. */
  hiddenStates?: Tensor[];
  /** Router logits of every MoE layer, fp32 [batch, positions, experts] each. */
  routerLogits?: Tensor[];
  /** Chosen experts of every MoE layer, best first, int32 [batch, positions, k] each. Come with `routerLogits`. */
  routerIndices?: Tensor[];
  /** Their weights, fp32 [batch, positions, k] each. */
  routerWeights?: Tensor[];
}

type Numbers = Float32Array | Int32Array;

/** One result assembled from the chunks of a prefill; rows keep their left padding. */
class Gathered {
  readonly #data: Numbers;
  readonly #width: number;
  readonly #positions: number;
  readonly #rows: number;

  constructor(kind: 'float32' | 'int32', rows: number, positions: number, width: number) {
    const size = rows * positions * width;
    this.#data = kind === 'float32' ? new Float32Array(size) : new Int32Array(size);
    this.#width = width;
    this.#positions = positions;
    this.#rows = rows;
  }

  /** Copies `count` positions of `source`, from its element `from` on, to position `position` of `row`. */
  put(source: Numbers, from: number, row: number, position: number, count: number): void {
    const width = this.#width;
    this.#data.set(
      source.subarray(from * width, (from + count) * width),
      (row * this.#positions + position) * width,
    );
  }

  tensor(): Tensor {
    const dims = [this.#rows, this.#positions, this.#width];
    return this.#data instanceof Float32Array
      ? new Tensor('float32', this.#data, dims)
      : new Tensor('int32', this.#data, dims);
  }
}

/** Runs prompts once and gathers logits or the last hidden state, and the intermediates asked for. */
export async function forwardPass(
  runtime: DecoderRuntime,
  prompts: readonly Prompt[],
  inputs: ForwardInputs,
  head: 'logits' | 'last_hidden_state',
  experts: BackendReader,
): Promise<Intermediates & { main: Tensor }> {
  const { config } = runtime;
  const positions = inputs.inputIds[0]?.length ?? 0;
  const keep = checkKeep(inputs.logitsToKeep, positions);
  const padding = prompts.map((prompt) => positions - prompt.ids.length);
  const rows = prompts.length;
  const width = head === 'logits' ? config.vocab_size : config.hidden_size;
  const kept = head === 'logits' ? keep : positions;
  const main = new Gathered('float32', rows, kept, width);
  const intermediates = Boolean(inputs.outputHiddenStates || inputs.outputRouterLogits);
  const gathered = intermediates
    ? intermediateBuffers(runtime, rows, positions)
    : new Map<string, Gathered>();
  const cache = runtime.openCache(rows, positions);
  const request = {
    head,
    intermediates,
    prompts,
    cache,
    experts,
    wanted: (row: number, token: number) => (padding[row] as number) + token >= positions - keep,
  };
  try {
    for await (const result of prefill(runtime, request, inputs.signal)) {
      if (head === 'logits') {
        const logits = result.outputs.logits?.data as Float32Array;
        for (const [i, { row, token }] of result.logitsOf.entries())
          main.put(logits, i, row, (padding[row] as number) + token - (positions - keep), 1);
      } else scatter(result, 'last_hidden_state', main, prompts, padding);
      for (const [name, buffer] of gathered) scatter(result, name, buffer, prompts, padding);
    }
  } finally {
    cache.dispose();
  }
  const list = (prefix: string) =>
    [...gathered].filter(([name]) => name.startsWith(prefix)).map(([, buffer]) => buffer.tensor());
  return {
    main: main.tensor(),
    ...(inputs.outputHiddenStates ? { hiddenStates: list('hidden_states.') } : {}),
    ...(inputs.outputRouterLogits
      ? {
          routerLogits: list('router_logits.'),
          routerIndices: list('router_indices.'),
          routerWeights: list('router_weights.'),
        }
      : {}),
  };
}

function intermediateBuffers(
  runtime: DecoderRuntime,
  rows: number,
  positions: number,
): Map<string, Gathered> {
  const { config } = runtime;
  const buffers = new Map<string, Gathered>();
  for (let i = 0; i <= config.num_hidden_layers; i++)
    buffers.set(`hidden_states.${i}`, new Gathered('float32', rows, positions, config.hidden_size));
  for (const [layer, isMoe] of config.moe_layers.entries()) {
    if (!isMoe) continue;
    buffers.set(`router_logits.${layer}`, new Gathered('float32', rows, positions, config.num_experts));
    buffers.set(
      `router_indices.${layer}`,
      new Gathered('int32', rows, positions, config.num_experts_per_tok),
    );
    buffers.set(
      `router_weights.${layer}`,
      new Gathered('float32', rows, positions, config.num_experts_per_tok),
    );
  }
  return buffers;
}

/** Moves a chunk's rows, which are padded on the right, to their places. */
function scatter(
  { chunk, outputs }: ChunkResult,
  name: string,
  target: Gathered,
  prompts: readonly Prompt[],
  padding: readonly number[],
): void {
  const data = outputs[name]?.data as Numbers;
  for (const [i, row] of chunk.rows.entries()) {
    const count = Math.min((prompts[row] as Prompt).ids.length - chunk.start, chunk.length);
    target.put(data, i * chunk.length, row, (padding[row] as number) + chunk.start, count);
  }
}

function checkKeep(keep: unknown, positions: number): number {
  if (keep === undefined || keep === 0) return positions;
  if (typeof keep === 'number' && Number.isInteger(keep) && keep > 0) return Math.min(keep, positions);
  throw new InputError(`logitsToKeep is ${show(keep)}; expected a whole number of positions, 0 for all`);
}
