import { open } from 'node:fs/promises';
import { CheckpointError } from '../errors.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import { listed } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { folderFor, useKept } from './kept.ts';
import type { QuantizeOptions } from './quantize-checkpoint.ts';
import type { Unit } from './rounded-matrix.ts';
import { layOutUnits, writeUnits } from './write-file.ts';

/**
 * A checkpoint whose float64 tensors, which nothing multiplies with, are float32: kept as rounded weights are, with a warning.
 * @param isUsed tells tensors that the model reads
 * @throws EngineError where the disk lacks room; AbortError
 */
export async function narrowCheckpoint(
  checkpoint: ModelCheckpoint,
  isUsed: (name: string) => boolean,
  { id, threads, signal, warn }: QuantizeOptions,
): Promise<ModelCheckpoint> {
  const wide = [...checkpoint.tensors.values()].filter(({ name, dtype }) => dtype === 'F64' && isUsed(name));
  if (wide.length === 0) return checkpoint;
  const names = listed(wide.map(({ name }) => name));
  warn(`float64 tensors are narrowed to float32, in which most of their digits are lost: ${names}`);
  const folder = await folderFor(checkpoint, 'float32');
  const units = wide.map(narrowedTensor);
  const layout = layOutUnits(units);
  return useKept(
    { folder, bytes: layout.bytes, model: id, scheme: 'float64 as float32' },
    {
      ...{ layout, warn },
      open: ({ path, tensors }) => ({
        ...checkpoint,
        files: [...checkpoint.files, path],
        tensors: new Map([...checkpoint.tensors, ...tensors]),
      }),
      write: (path) => writeUnits(path, units, { threads, signal }),
    },
  );
}

/** Bytes that one task reads. */
const TASK_BYTES = 8 * 2 ** 20;

function narrowedTensor(tensor: TensorInfo): Unit {
  const { name, shape, byteLength } = tensor;
  return {
    tensors: [{ name, dtype: 'F32', shape }],
    *tasks() {
      for (let first = 0; first < byteLength; first += TASK_BYTES) {
        const bytes = Math.min(TASK_BYTES, byteLength - first);
        yield {
          bytes: bytes / 2,
          async run(write) {
            const values = Float32Array.from(await readDoubles(tensor, first, bytes));
            await write(name, first / 2, new Uint8Array(values.buffer));
          },
        };
      }
    },
  };
}

async function readDoubles(
  { file, offset, name }: TensorInfo,
  first: number,
  bytes: number,
): Promise<Float64Array> {
  const values = new Float64Array(bytes / 8);
  const handle = await open(file);
  try {
    const { bytesRead } = await handle.read(new Uint8Array(values.buffer), 0, bytes, offset + first);
    if (bytesRead === bytes) return values;
    throw new CheckpointError(`${file} ends before its tensor ${name} does; fetch it again`);
  } finally {
    await handle.close();
  }
}
