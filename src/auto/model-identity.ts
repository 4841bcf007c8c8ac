import { createHash } from 'node:crypto';
import type { ModelIdentity } from '../engine/cache-file.ts';
import type { Model } from '../models/architecture.ts';
import { readTensors } from '../safetensors/read-tensors.ts';
import { type TensorInfo, ZEROS } from '../safetensors/types.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';

/** Tensors that are sampled, spread evenly, and the bytes that are read of each. */
const SAMPLES = 32;
const SAMPLE_BYTES = 1024;

/** Fields of config.json that say nothing of what is computed. */
const IDLE_FIELDS = ['_name_or_path', 'transformers_version'];

/**
 * What tells a model from others in files that were made with it: hashes of its config, and of its weights' names, types and shapes with samples
 * of their bytes. Where it was loaded from does not count.
 */
export async function modelIdentity(
  { modelType }: Model,
  config: Readonly<Record<string, unknown>>,
  checkpoint: ModelCheckpoint,
): Promise<ModelIdentity> {
  const told = Object.entries(config).filter(([name]) => !IDLE_FIELDS.includes(name));
  const codes = [...(checkpoint.quantized?.values() ?? [])].map(({ codes }) => codes.tensor);
  const all = [...checkpoint.tensors.values(), ...codes].sort((a, b) => (a.name < b.name ? -1 : 1));
  const weights = createHash('sha256');
  for (const { name, dtype, shape } of all) weights.update(JSON.stringify([name, dtype, shape]));
  for (const bytes of await readTensors(samples(all.filter(({ file }) => file !== ZEROS))))
    weights.update(bytes);
  const hash = createHash('sha256').update(JSON.stringify(told.sort(([a], [b]) => (a < b ? -1 : 1))));
  return { modelType, config: hash.digest('hex'), weights: weights.digest('hex') };
}

/** The first bytes of some of the tensors. */
function samples(tensors: readonly TensorInfo[]): TensorInfo[] {
  const step = Math.max(1, Math.ceil(tensors.length / SAMPLES));
  return tensors
    .filter((_, i) => i % step === 0)
    .map((tensor) => ({ ...tensor, byteLength: Math.min(tensor.byteLength, SAMPLE_BYTES) }));
}
