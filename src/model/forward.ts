import { type ChunkResult, prefill } from '../engine/prefill.ts';
import type { DecoderRuntime } from '../engine/runner.ts';
import type { Prompt } from '../engine/sequence.ts';
import type { BackendReader } from '../engine/tuning/policy.ts';
import { InputError, show } from '../errors.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
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
  const { vocabSize, hiddenSize } = runtime.model;
  const positions = inputs.inputIds[0]?.length ?? 0;
  const keep = checkKeep(inputs.logitsToKeep, positions);
  const padding = prompts.map((prompt) => positions - prompt.ids.length);
  const rows = prompts.length;
  const width = head === 'logits' ? vocabSize : hiddenSize;
  const kept = head === 'logits' ? keep : positions;
  const main = new Gathered('float32', rows, kept, width);
  const intermediates = Boolean(inputs.outputHiddenStates || inputs.outputRouterLogits);
  const kinds = intermediates ? intermediateBuffers(runtime.model, rows, positions) : NO_INTERMEDIATES;
  const gathered = Object.values(kinds).flatMap((buffers) => [...buffers]);
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
        const logits = result.outputs[io.LOGITS]?.data as Float32Array;
        for (const [i, { row, token }] of result.logitsOf.entries())
          main.put(logits, i, row, (padding[row] as number) + token - (positions - keep), 1);
      } else scatter(result, io.LAST_HIDDEN_STATE, main, prompts, padding);
      for (const [name, buffer] of gathered) scatter(result, name, buffer, prompts, padding);
    }
  } finally {
    cache.dispose();
  }
  const list = (buffers: Buffers) => [...buffers.values()].map((buffer) => buffer.tensor());
  const { hiddenStates, routerLogits, routerIndices, routerWeights } = kinds;
  return {
    main: main.tensor(),
    ...(inputs.outputHiddenStates ? { hiddenStates: list(hiddenStates) } : {}),
    ...(inputs.outputRouterLogits
      ? {
          routerLogits: list(routerLogits),
          routerIndices: list(routerIndices),
          routerWeights: list(routerWeights),
        }
      : {}),
  };
}

/** By the name of the graph's output. */
type Buffers = ReadonlyMap<string, Gathered>;
type IntermediateBuffers = Readonly<Record<keyof Intermediates, Buffers>>;

const NO_INTERMEDIATES: IntermediateBuffers = {
  hiddenStates: new Map(),
  routerLogits: new Map(),
  routerIndices: new Map(),
  routerWeights: new Map(),
};

function intermediateBuffers(
  { caches, hiddenSize, routed }: Model,
  rows: number,
  positions: number,
): IntermediateBuffers {
  const buffers = (kind: 'float32' | 'int32', indices: readonly number[], width: number, portOf: PortOf) =>
    new Map(indices.map((index) => [portOf(index, width).name, new Gathered(kind, rows, positions, width)]));
  const { layers, count, perToken } = routed ?? { layers: [], count: 0, perToken: 0 };
  return {
    hiddenStates: buffers('float32', [...caches.keys(), caches.length], hiddenSize, io.hiddenStates),
    routerLogits: buffers('float32', layers, count, io.routerLogits),
    routerIndices: buffers('int32', layers, perToken, io.routerIndices),
    routerWeights: buffers('float32', layers, perToken, io.routerWeights),
  };
}

type PortOf = (index: number, width: number) => io.Port;

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
