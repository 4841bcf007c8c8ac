import { type Chunk, planPrefill } from '../engine/batch.ts';
import type { SequenceKeeper } from '../engine/decoding.ts';
import type { Engine } from '../engine/engine.ts';
import type { Prompt, Sequence } from '../engine/sequence.ts';
import type { BackendReader } from '../engine/tuning/policy.ts';
import { expected, InputError } from '../errors.ts';
import type { TokenRows } from '../generation/prompt.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { checkInputs } from '../options.ts';
import { allocate } from '../runtime/memory.ts';
import { Tensor, type TensorData } from '../runtime/ort.ts';
import type { Cache } from './cache.ts';
import type { ExpertsImplementation } from './pretrained-model.ts';

/** Arguments of a `forward` call. Rows of `inputIds` are padded on the left to one length. */
export interface ForwardInputs {
  inputIds: TokenRows;
  /** 1 for a token, 0 for padding on its left; without it every position is a token. */
  attentionMask?: TokenRows;
  /** Logits of the last N positions only; 0, the default, means all. */
  logitsToKeep?: number;
  outputHiddenStates?: boolean;
  outputRouterLogits?: boolean;
  /** Backend of this call alone. */
  expertsImplementation?: ExpertsImplementation;
  /** What the only row follows: `inputIds` are the tokens after the cache's, which grows by them. After an error it is as it was. */
  cache?: Cache;
  signal?: AbortSignal;
}

/** What every `forward` takes. */
export const FORWARD_OPTIONS = [
  'inputIds',
  'attentionMask',
  'outputHiddenStates',
  'outputRouterLogits',
  'expertsImplementation',
  'signal',
] as const satisfies readonly (keyof ForwardInputs)[];
/** What `forward` takes where it gives logits. */
export const LOGITS_OPTIONS = [...FORWARD_OPTIONS, 'logitsToKeep'] as const;

/** @throws InputError for what `forward` does not know */
export function checkForward(inputs: unknown, rest: readonly unknown[], known: readonly string[]): void {
  checkInputs(inputs, rest, known, 'forward');
  for (const name of ['outputHiddenStates', 'outputRouterLogits'] as const) {
    const value = (inputs as ForwardInputs)[name] ?? false;
    if (typeof value !== 'boolean')
      throw new InputError(expected(`forward: ${name}`, value, 'true or false'));
  }
}

/** Intermediates of a `forward` call; values at padded positions are zero. */
export interface Intermediates {
  /** Embeddings, then the output of every layer; the last entry is after the final norm. fp32 [batch, positions, hidden] each. */
  hiddenStates?: Tensor<'float32'>[];
  /** Router logits of every MoE layer, fp32 [batch, positions, experts] each. */
  routerLogits?: Tensor<'float32'>[];
  /** Chosen experts of every MoE layer, best first, int32 [batch, positions, k] each. Come with `routerLogits`. */
  routerIndices?: Tensor<'int32'>[];
  /** Their weights, fp32 [batch, positions, k] each. */
  routerWeights?: Tensor<'float32'>[];
}

type Kind = 'float32' | 'int32';

/** The tokens of one chunk in the padded batch. */
interface Stretch {
  readonly row: number;
  /** Position of the first token. */
  readonly start: number;
  readonly tokens: number;
}

/** One result assembled from passes, [rows, positions, width]; positions before `first` are left out. */
class Gathered<K extends Kind = Kind> {
  readonly #kind: K;
  readonly #data: TensorData[K];
  readonly #rows: number;
  readonly #positions: number;
  readonly #first: number;
  readonly #width: number;

  constructor(kind: K, rows: number, positions: number, width: number, first = 0) {
    const size = rows * (positions - first) * width;
    const purpose = `a result of ${rows} × ${positions - first} × ${width}`;
    const remedy =
      'Run fewer rows at a time, or ask for less: logitsToKeep leaves all but the last logits out';
    const data =
      kind === 'float32'
        ? allocate(Float32Array, size, purpose, remedy)
        : allocate(Int32Array, size, purpose, remedy);
    this.#kind = kind;
    this.#data = data as TensorData[K];
    this.#rows = rows;
    this.#positions = positions - first;
    this.#first = first;
    this.#width = width;
  }

  /** Copies what a pass gave for the tokens of its chunks that are not left out, which lie end to end. */
  take(source: TensorData[Kind], stretches: readonly Stretch[]): void {
    const width = this.#width;
    let from = 0;
    for (const { row, start, tokens } of stretches) {
      const skipped = Math.min(Math.max(this.#first - start, 0), tokens);
      const count = tokens - skipped;
      if (count === 0) continue;
      const to = row * this.#positions + start + skipped - this.#first;
      this.#data.set(source.subarray(from * width, (from + count) * width), to * width);
      from += count;
    }
  }

  tensor(): Tensor<K> {
    return new Tensor(this.#kind, this.#data, [this.#rows, this.#positions, this.#width]);
  }
}

/** Runs prompts once and gathers logits or the last hidden state, and the intermediates asked for. */
export async function forwardPass(
  engine: Engine,
  prompts: readonly Prompt[],
  inputs: ForwardInputs,
  head: 'logits' | 'last_hidden_state',
  experts: BackendReader,
  keeper?: SequenceKeeper,
): Promise<Intermediates & { main: Tensor<'float32'> }> {
  const { vocabSize, hiddenSize } = engine.model;
  const positions = inputs.inputIds[0]?.length ?? 0;
  const first = positions - checkKeep(inputs.logitsToKeep, positions);
  const main =
    head === 'logits'
      ? new Gathered('float32', prompts.length, positions, vocabSize, first)
      : new Gathered('float32', prompts.length, positions, hiddenSize);
  const intermediates = Boolean(inputs.outputHiddenStates || inputs.outputRouterLogits);
  const kinds = intermediates
    ? intermediateBuffers(engine.model, prompts.length, positions)
    : NO_INTERMEDIATES;
  const gathered = Object.values(kinds).flatMap((buffers) => [...buffers]);
  engine.assertRoom(prompts.map(({ ids }) => ids.length));
  const sequences = prompts.map((prompt) => engine.open(prompt, 0, undefined, keeper?.kept));
  for (const sequence of sequences) sequence.isPinned = true;
  const stretch = ({ sequence, tokens }: Chunk): Stretch => ({
    row: sequences.indexOf(sequence),
    start: positions - sequence.length + sequence.computed,
    tokens,
  });
  try {
    await engine.reserve(sequences, inputs.signal);
    if (keeper)
      await catchUp(engine, sequences[0] as Sequence, keeper.kept.ids.length, experts, inputs.signal);
    for (const chunks of planPrefill(sequences)) {
      const stretches = chunks.map(stretch);
      const tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
      const request = {
        ...{ chunks, head, intermediates, experts: experts.choose({ tokens, phase: 'prefill' }) },
        kind: experts.requested(),
        wanted: ({ length }: Sequence, place: number) => positions - length + place >= first,
      };
      const { outputs } = await engine.run(request, inputs.signal);
      const dataOf = (name: string) => outputs[name]?.data as TensorData[Kind];
      main.take(dataOf(head === 'logits' ? io.LOGITS : io.LAST_HIDDEN_STATE), stretches);
      for (const [name, buffer] of gathered) buffer.take(dataOf(name), stretches);
    }
    if (keeper) keeper.take(engine.keep(sequences.pop() as Sequence));
  } finally {
    for (const sequence of sequences) engine.close(sequence);
  }
  const list = <K extends Kind>(buffers: Buffers<K>) =>
    [...buffers.values()].map((buffer) => buffer.tensor());
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

/** Computes the tokens of a cache that have to be computed again. */
async function catchUp(
  engine: Engine,
  sequence: Sequence,
  length: number,
  experts: BackendReader,
  signal: AbortSignal | undefined,
): Promise<void> {
  while (sequence.computed < length) {
    const tokens = Math.min(length - sequence.computed, io.CHUNK_TOKENS);
    const request = {
      ...({ chunks: [{ sequence, tokens }], head: 'logits', intermediates: false } as const),
      ...{ experts: experts.choose({ tokens, phase: 'prefill' }), kind: experts.requested() },
      wanted: () => false,
    };
    await engine.run(request, signal);
  }
}

/** By the name of the graph's output. */
type Buffers<K extends Kind> = ReadonlyMap<string, Gathered<K>>;
type IntermediateBuffers = Readonly<
  Record<Exclude<keyof Intermediates, 'routerIndices'>, Buffers<'float32'>> & {
    routerIndices: Buffers<'int32'>;
  }
>;

const NO_INTERMEDIATES: IntermediateBuffers = {
  hiddenStates: new Map(),
  routerLogits: new Map(),
  routerIndices: new Map(),
  routerWeights: new Map(),
};

function intermediateBuffers(
  { caches, hiddenSize, residualSize = hiddenSize, routed }: Model,
  rows: number,
  positions: number,
): IntermediateBuffers {
  const buffers = <K extends Kind>(kind: K, indices: readonly number[], width: number, portOf: PortOf) =>
    new Map(indices.map((index) => [portOf(index, width).name, new Gathered(kind, rows, positions, width)]));
  const { layers, count, perToken } = routed ?? { layers: [], count: 0, perToken: 0 };
  return {
    hiddenStates: new Map([
      ...buffers('float32', [...caches.keys()], residualSize, io.hiddenStates),
      ...buffers('float32', [caches.length], hiddenSize, io.hiddenStates),
    ]),
    routerLogits: buffers('float32', layers, count, io.routerLogits),
    routerIndices: buffers('int32', layers, perToken, io.routerIndices),
    routerWeights: buffers('float32', layers, perToken, io.routerWeights),
  };
}

type PortOf = (index: number, width: number) => io.Port;

function checkKeep(keep: unknown, positions: number): number {
  if (keep === undefined || keep === 0) return positions;
  if (typeof keep === 'number' && Number.isInteger(keep) && keep > 0) return Math.min(keep, positions);
  throw new InputError(expected('logitsToKeep', keep, 'a whole number of positions, 0 for all'));
}
