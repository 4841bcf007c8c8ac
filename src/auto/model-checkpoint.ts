import { CheckpointError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { type CheckpointListener, openCheckpoint } from '../safetensors/checkpoint.ts';
import { MAX_TENSORS } from '../safetensors/limits.ts';
import { readTensors } from '../safetensors/read-tensors.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import type { ModuleReader } from '../weights/formats/format.ts';
import { findCodes, type ModelCheckpoint, readQuantized } from '../weights/quantized-checkpoint.ts';
import { SETTINGS_PLACES } from './quantization.ts';

/** What torch puts before the names of a model that is saved inside a wrapper: of `torch.compile`, of data parallelism. */
const WRAPPER = /^(?:_orig_mod\.|module\.)+/;

/**
 * Opens the weights of a repo or folder, with tensors under the names that the model asks for. Of quantized ones only what is small
 * is read.
 * @param reader of quantized modules, where the repo says that it has such: see `openQuantization`
 * @param listener see `openCheckpoint`
 * @throws CheckpointError, HubError: see `openCheckpoint`, and for quantized weights whose parts do not fit
 */
export async function openModelCheckpoint(
  repo: Repo,
  model: Model,
  reader: ModuleReader | undefined,
  listener?: CheckpointListener,
): Promise<ModelCheckpoint> {
  const { files, tensors: stored } = await openCheckpoint(repo, listener);
  const tensors = named(stored, model);
  if (reader) return withIntegers(await readQuantized({ files, tensors }, reader, readTensors));
  const codes = findCodes(tensors);
  if (codes)
    throw new CheckpointError(
      `${codes.file}: ${codes.name} (${codes.dtype} [${codes.shape}]) is part of a quantized weight, but nothing says how to read it. ` +
        `Fetch what does from the same repo: ${SETTINGS_PLACES}`,
    );
  return withIntegers({ files, tensors });
}

/** Most bytes of a tensor of integers that a graph takes as numbers. */
const INTEGERS_BYTES = 4096;

/** The checkpoint with the contents of its small int64 tensors. */
async function withIntegers(checkpoint: ModelCheckpoint): Promise<ModelCheckpoint> {
  const small = [...checkpoint.tensors.values()].filter(
    ({ dtype, byteLength }) => dtype === 'I64' && byteLength <= INTEGERS_BYTES,
  );
  if (small.length === 0) return checkpoint;
  const contents = await readTensors(small);
  const values = (bytes: Buffer) =>
    Array.from({ length: bytes.length / 8 }, (_, i) => bytes.readBigInt64LE(8 * i));
  const integers = small.map(({ name }, i) => [name, values(contents[i] as Buffer)] as const);
  return { ...checkpoint, integers: new Map(integers) };
}

/** Tensors by the names of the model. */
function named(stored: ReadonlyMap<string, TensorInfo>, model: Model): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (const [given, tensor] of stored) {
    const name = model.canonicalName(given.replace(WRAPPER, ''));
    const expertName = isStack(tensor) ? model.stackedExperts?.(name) : undefined;
    if (expertName) {
      for (const slice of slices(tensor, expertName)) tensors.set(slice.name, slice);
      continue;
    }
    // Beside a tensor that has the name already, a second one of it stays what it is.
    const shares = model.sharedScale?.(name);
    if (shares) {
      for (const own of ownScales(tensor, shares, stored, model)) tensors.set(own.name, own);
      continue;
    }
    const free = name === given || stored.has(name) || tensors.has(name) ? given : name;
    tensors.set(free, free === given ? tensor : { ...tensor, name: free, storedName: given });
  }
  return tensors;
}

/** A scale that weights share, as the scale of each of them that is stored in codes. */
function ownScales(
  scale: TensorInfo,
  shares: RegExp,
  stored: ReadonlyMap<string, TensorInfo>,
  model: Model,
): TensorInfo[] {
  return [...stored]
    .filter(([, { dtype }]) => dtype === 'F8_E4M3')
    .map(([given]) => model.canonicalName(given.replace(WRAPPER, '')))
    .filter((name) => shares.test(name))
    .map((name) => ({ ...scale, name: `${name}_scale_inv`, storedName: scale.name }));
}

/** What could hold a matrix for each expert. */
function isStack({ shape: [count = 0, ...matrix] }: TensorInfo): boolean {
  return matrix.length === 2 && count <= MAX_TENSORS;
}

/** The matrices of a stack, one for each expert, where they lie. */
function slices(stack: TensorInfo, nameOf: (expert: number) => string): TensorInfo[] {
  const [count = 0, ...shape] = stack.shape;
  const byteLength = stack.byteLength / Math.max(1, count);
  return Array.from({ length: count }, (_, expert) => ({
    ...stack,
    name: nameOf(expert),
    storedName: stack.name,
    offset: stack.offset + expert * byteLength,
    byteLength,
    shape,
  }));
}
