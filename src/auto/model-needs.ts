import type { DType } from '../dtype.ts';
import { type Needs, needsOf } from '../fit/needs.ts';
import {
  countWeights,
  measuredStorage,
  plainStorage,
  roundedStorage,
  type Storage,
  storageOfFiles,
} from '../fit/weight-counts.ts';
import type { StoredWeight } from '../graph/weight-source.ts';
import type { Model } from '../models/architecture.ts';
import { parseScheme, type Quantization } from '../quantize/scheme.ts';
import { expectedWeights } from './expected-weights.ts';

/** What is known of a model's weights before one is read. */
export interface KnownWeights {
  /** Where they are on this disk. */
  readonly stored?: readonly StoredWeight[] | undefined;
  /** Size of all their files, here or on the Hub. */
  readonly fileBytes?: number | undefined;
  /** Whether the repo says that they are quantized. */
  readonly isQuantized: boolean;
  /** What they are rounded to at load. */
  readonly quantization?: Quantization | undefined;
  /** Precision of the cache; default: the declared one. */
  readonly cacheDtype?: DType | undefined;
}

/** What config.json stands for where it declares no precision: nearly every repo's. */
const USUAL_DTYPE = 'bfloat16';

/**
 * What a model needs of a machine.
 * @returns undefined for quantized weights of which not even the size is known
 */
export function modelNeeds(model: Model, known: KnownWeights): Needs | undefined {
  const weights = known.stored ?? expectedWeights(model);
  const counts = countWeights(weights, model.work);
  const dtype = model.declared.dtype ?? USUAL_DTYPE;
  const { stored, fileBytes, isQuantized, quantization, cacheDtype = dtype } = known;
  let storage: Storage;
  if (stored) storage = measuredStorage(stored, counts, model.work);
  else if (!isQuantized) storage = plainStorage(dtype);
  else if (fileBytes !== undefined) storage = storageOfFiles(counts, fileBytes, dtype);
  else return undefined;
  if (quantization !== undefined) storage = roundedStorage(parseScheme(quantization), storage);
  return needsOf(model, counts, storage, cacheDtype);
}
