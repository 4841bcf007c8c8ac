import type { DType } from '../dtype.ts';
import { EngineError } from '../errors.ts';
import type { Graph } from '../graph/graph.ts';
import type { Target } from '../nn/scope.ts';
import type { DeviceWeights } from '../runtime/device.ts';
import { openSession } from '../runtime/session.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';

/** Where and how the sessions of a loaded model compute. */
export interface EngineOptions {
  readonly dtype: DType;
  /** Whether activations that meet codes of integers may be rounded to int8. */
  readonly int8Activations?: boolean | undefined;
  readonly threads?: number | undefined;
  /** The weights on a device; without them the CPU computes. */
  readonly weights?: DeviceWeights | undefined;
  /** Hears how far the upload of weights to the device is, in bytes. */
  readonly onUpload?: ((done: number, total: number) => void) | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

export interface DecoderOptions extends EngineOptions {
  /** Element type of keys and values in the cache. */
  readonly cacheDtype: DType;
  /** Most bytes of keys and values that are kept of sequences that have ended. */
  readonly prefixBytes?: number;
  /** Most bytes of the whole cache. */
  readonly maxCacheBytes?: number | undefined;
}

/** What graphs are built for. */
export function targetOf({ dtype, int8Activations, weights }: EngineOptions): Target {
  return { device: weights ? 'cuda' : 'cpu', dtype, int8Activations };
}

/** The error for use of a model after its `dispose`. */
export function disposedError(): EngineError {
  return new EngineError('the model was disposed; load it again with fromPretrained');
}

/**
 * Opens a graph, on a device with its weights there.
 * @throws EngineError for a malformed graph, or no room on the device or for packed weights; InputError where `maxMemory` is too little; AbortError
 */
export async function openGraph(
  graph: Graph,
  store: WeightStore,
  { threads, weights, onUpload }: EngineOptions,
  signal?: AbortSignal,
): Promise<RecordingSession> {
  const { model, boundInputs } = graph.serialize();
  const session = await openSession(model, {
    store,
    boundInputs,
    weights,
    ...(threads === undefined ? {} : { threads }),
  });
  try {
    await weights?.upload(onUpload, signal);
    if (!weights) {
      await store.prepareExperts();
      store.prefetch(graph.streamed);
    }
  } catch (error) {
    await session.dispose();
    throw error;
  }
  return session;
}
