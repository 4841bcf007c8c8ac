import { CheckpointError, InputError } from '../errors.ts';
import type { SizedWeight } from '../graph/weight-source.ts';
import type { Model } from '../models/architecture.ts';
import type { WeightStore } from '../runtime/types.ts';
import { openWeightStore } from '../runtime/weight-store.ts';
import { readTensors } from '../safetensors/read-tensors.ts';
import { listed } from '../weights/checkpoint-weights.ts';
import { compressedTensors } from '../weights/formats/compressed-tensors.ts';
import { type ModelCheckpoint, readQuantized, storedWeights } from '../weights/quantized-checkpoint.ts';
import type { QuantizedTensor } from '../weights/quantized-tensor.ts';
import { folderFor, type KeptFile, useKept } from './kept.ts';
import { planQuantization, type QuantizationPlan } from './plan.ts';
import { roundedBytes, roundedMatrix } from './rounded-matrix.ts';
import { describeScheme, type QuantizationScheme } from './scheme.ts';
import { compressedSettings } from './settings.ts';
import { layOutUnits, writeUnits } from './write-file.ts';

export interface QuantizeOptions {
  /** The model as it was asked for. */
  readonly id: string;
  /** Matrices that are rounded at a time. */
  readonly threads: number;
  readonly signal?: AbortSignal | undefined;
  /** Hears of the bytes that are written: first of none, so that the total is known before it begins; nothing if they are kept already. */
  readonly onProgress?: ((file: string, done: number, total: number) => void) | undefined;
  /** Hears how large all weights will be, before any is rounded; what it throws ends it. */
  readonly onPlan?: ((weights: readonly SizedWeight[]) => void) | undefined;
  readonly warn: (message: string) => void;
}

/**
 * A checkpoint with its large matrices rounded. They are kept in SWITCHYARD_CACHE, from where the next load maps them; what is damaged
 * there is rounded anew.
 * @throws InputError where there is nothing to round; EngineError where the disk lacks room; CheckpointError for a weight that is no
 *   finite number; AbortError
 */
export async function quantizeCheckpoint(
  model: Model,
  checkpoint: ModelCheckpoint,
  scheme: QuantizationScheme,
  options: QuantizeOptions,
): Promise<ModelCheckpoint> {
  const plan = planQuantization(model, checkpoint, scheme);
  checkPlan(plan, scheme, options);
  options.onPlan?.(plannedSizes(checkpoint, plan));
  const folder = await folderFor(checkpoint, scheme);
  return withSources(checkpoint, plan, async (store) => {
    const units = plan.matrices.map((matrix) => roundedMatrix(matrix, store));
    const layout = layOutUnits(units);
    const { bytes } = layout;
    const { warn } = options;
    const progress = meter(folder, bytes, options);
    const what = { folder, bytes, model: options.id, scheme: describeScheme(scheme) };
    return useKept(what, {
      ...{ layout, warn },
      open: (file) => overlay(checkpoint, plan, file),
      onWrite: () => progress(0),
      async write(path) {
        await writeUnits(path, units, { ...options, onBytes: progress });
        progress(bytes);
      },
    });
  });
}

/** @throws InputError where a plan has nothing to do */
export function checkPlan(
  { matrices, widened }: QuantizationPlan,
  scheme: QuantizationScheme,
  { id, warn }: Pick<QuantizeOptions, 'id' | 'warn'>,
): void {
  if (matrices.length === 0)
    throw new InputError(
      `${id} has nothing to round to ${describeScheme(scheme)}: it has no such matrices, or they are quantized already. Leave ` +
        'quantization out',
    );
  if (widened.length > 0)
    warn(`no group of the size asked for divides their columns, so that these get int8: ${listed(widened)}`);
}

/** What a checkpoint will hold. */
function plannedSizes(checkpoint: ModelCheckpoint, { matrices, replaced }: QuantizationPlan): SizedWeight[] {
  const rounded = matrices.map((matrix) => ({ name: matrix.name, byteLength: roundedBytes(matrix) }));
  return [...storedWeights(checkpoint).filter(({ name }) => !replaced.has(name)), ...rounded];
}

/** Opens what a plan reads, for as long as `use` takes. */
export async function withSources<T>(
  { tensors, quantized }: ModelCheckpoint,
  { matrices }: QuantizationPlan,
  use: (store: WeightStore) => Promise<T>,
): Promise<T> {
  const names = new Set(matrices.map(({ source }) => source.name));
  const of = <V>(all: ReadonlyMap<string, V> | undefined) =>
    [...(all ?? [])].filter(([name]) => names.has(name)).map(([, value]) => value);
  const store = openWeightStore(of(tensors), of(quantized));
  try {
    return await use(store);
  } finally {
    store.dispose();
  }
}

function meter(file: string, total: number, { onProgress }: QuantizeOptions) {
  let done = 0;
  return (bytes: number) => {
    done = Math.min(total, done + bytes);
    onProgress?.(file, done, total);
  };
}

/**
 * The checkpoint with rounded weights in place of those that they were made of.
 * @throws CheckpointError where they are damaged
 */
async function overlay(
  checkpoint: ModelCheckpoint,
  plan: QuantizationPlan,
  { path, tensors }: KeptFile,
): Promise<ModelCheckpoint> {
  const settings = { method: 'compressed-tensors', json: compressedSettings(plan), file: path, field: '' };
  const reader = compressedTensors.open(settings, () => {});
  const { quantized: rounded = new Map() } = await readQuantized(
    { files: [path], tensors },
    reader,
    readTensors,
  );
  await checkRounded(plan, rounded, path);
  const left = <V>(all: ReadonlyMap<string, V> | undefined) =>
    [...(all ?? [])].filter(([name]) => !plan.replaced.has(name));
  return {
    ...checkpoint,
    files: [...checkpoint.files, path],
    tensors: new Map(left(checkpoint.tensors)),
    quantized: new Map([...left(checkpoint.quantized), ...rounded]),
    kept: path,
  };
}

/**
 * Looks at what can be told from a few hundredths of the bytes: shapes and scales. A code stands for some weight, whichever it is.
 * @throws CheckpointError for what rounding cannot have written
 */
async function checkRounded(
  { matrices }: QuantizationPlan,
  rounded: ReadonlyMap<string, QuantizedTensor>,
  path: string,
): Promise<void> {
  for (const { name, source } of matrices) {
    const shape = rounded.get(name)?.shape;
    if (shape?.join() !== `${source.rows},${source.columns}`)
      throw new CheckpointError(
        `${path}: ${name} is [${shape}]; expected [${source.rows},${source.columns}]`,
      );
  }
  const store = openWeightStore([], rounded.values());
  try {
    await store.checkScales(rounded.keys(), false);
  } finally {
    store.dispose();
  }
}
