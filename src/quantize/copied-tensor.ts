import { open } from 'node:fs/promises';
import { CheckpointError } from '../errors.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import type { Unit } from './rounded-matrix.ts';

/** Bytes of one task. */
const TASK_BYTES = 8 * 2 ** 20;

/** A tensor that goes into another file as it is, under the name by which the model asks for it. */
export function copiedTensor(tensor: TensorInfo): Unit {
  const { name, dtype, shape, byteLength } = tensor;
  return {
    tensors: [{ name, dtype, shape }],
    *tasks() {
      for (let first = 0; first < byteLength; first += TASK_BYTES) {
        const bytes = Math.min(TASK_BYTES, byteLength - first);
        yield { bytes, run: async (write) => write(name, first, await readPart(tensor, first, bytes)) };
      }
    },
  };
}

async function readPart({ file, offset, name }: TensorInfo, first: number, bytes: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const buffer = Buffer.alloc(bytes);
    const { bytesRead } = await handle.read(buffer, 0, bytes, offset + first);
    if (bytesRead === bytes) return buffer;
    throw new CheckpointError(`${file} ends before its tensor ${name} does; fetch it again`);
  } finally {
    await handle.close();
  }
}
