/** What a model needs of a machine: memory, and bytes a token. */
import { type DType, ELEMENT_TYPES } from '../dtype.ts';
import type { Model } from '../models/architecture.ts';
import { CHUNK_TOKENS } from '../models/io.ts';
import { bytesOf, type Storage, type WeightCounts } from './weight-counts.ts';

/** Bytes, but for `positions`. */
export interface Needs {
  /** Of all weights that the model reads, but for tables that stay in their file. */
  readonly weights: number;
  /** Of those that one decoded token reads. */
  readonly token: number;
  /** Of the routed experts among them, which are others for each token. */
  readonly routedToken: number;
  /** Of all routed experts. */
  readonly routed: number;
  /** Keys, values and states of one sequence of `positions` tokens. */
  readonly cache: number;
  readonly positions: number;
  /** What the layers hold of a pass of a prompt, and the process besides. */
  readonly working: number;
}

/** Node.js, the engine and a tokenizer: measured with the bundled model, 150 to 200 MB. */
const PROCESS_BYTES = 200e6;
/** Tokens of a conversation that memory is reckoned for unless the context is shorter. */
const USUAL_POSITIONS = 4096;

/**
 * @param cacheDtype of keys and values
 * @param positions prompt and answer together; default 4,096, or the context
 */
export function needsOf(
  model: Model,
  counts: WeightCounts,
  storage: Storage,
  cacheDtype: DType,
  positions: number = Math.min(USUAL_POSITIONS, model.contextLength),
): Needs {
  const share = model.routed ? model.routed.perToken / model.routed.count : 1;
  const routedToken = Math.round(counts.routed * storage.experts);
  return {
    weights: bytesOf(counts.stored, storage) - Math.round(counts.tables * storage.embedding),
    token: bytesOf(counts.token, storage),
    routedToken,
    routed: Math.round(routedToken / share),
    cache: cacheBytes(model, positions, cacheDtype),
    positions,
    working: PROCESS_BYTES + activationBytes(model, counts),
  };
}

/** Keys and values of each position; states are fp32 and as large after one token as after a million. */
export function cacheBytes(model: Model, positions: number, dtype: DType): number {
  const { bytes } = ELEMENT_TYPES[dtype];
  return model.caches.reduce((sum, cache) => {
    if (cache.kind === 'keys_values') {
      const width = 2 * cache.kvHeads * cache.headDim + (cache.indexDim ?? 0);
      return sum + width * positions * bytes;
    }
    const states = Object.values(cache.states).map((shape) => shape.reduce((a, b) => a * b, 1));
    return sum + 4 * states.reduce((a, b) => a + b, 0);
  }, 0);
}

/** At most what all products of the widest layer give for a pass, and one row of logits, in fp32. */
function activationBytes({ hiddenSize, vocabSize }: Model, { widest }: WeightCounts): number {
  return Math.round(4 * (CHUNK_TOKENS * (2 * hiddenSize + widest) + vocabSize));
}
