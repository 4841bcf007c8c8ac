/** Writes tensors into raw files, as they would lie in a safetensors shard. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TensorInfo } from '../../src/safetensors/types.ts';

export type WeightDType = 'F32' | 'F16' | 'BF16';

export interface TestTensor {
  name: string;
  shape: number[];
  /** Values that every weight dtype holds exactly, so that references need no rounding. */
  values: Float32Array;
  dtype?: WeightDType;
}

/** A folder of the test's own; remove it with the returned function. */
export function temporaryFolder(): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-runtime-'));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Writes all tensors into one file, one byte in, so that none is aligned. */
export function writeTensors(file: string, tensors: readonly TestTensor[]): TensorInfo[] {
  const chunks: Uint8Array[] = [new Uint8Array(1)];
  let offset = 1;
  const infos = tensors.map(({ name, shape, values, dtype = 'F32' }) => {
    const bytes = encode(values, dtype);
    chunks.push(bytes);
    const info: TensorInfo = { name, file, offset, byteLength: bytes.length, dtype, shape };
    offset += bytes.length;
    return info;
  });
  writeFileSync(file, Buffer.concat(chunks));
  return infos;
}

function encode(values: Float32Array, dtype: WeightDType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer.slice(0));
  const half = Uint16Array.from(values, dtype === 'BF16' ? toBFloat16 : toFloat16);
  return new Uint8Array(half.buffer);
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Exact for the values of {@link pattern}. */
function toBFloat16(value: number): number {
  float[0] = value;
  return (bits[0] as number) >>> 16;
}

/** Exact for the values of {@link pattern}, which are normal numbers of fp16. */
function toFloat16(value: number): number {
  if (value === 0) return 0;
  float[0] = value;
  const all = bits[0] as number;
  return ((all >>> 16) & 0x8000) | ((((all >>> 23) & 0xff) - 112) << 10) | ((all >>> 13) & 0x3ff);
}

/** Multiples of 1/32 between -1 and 1 in no visible order: exact in bf16, fp16 and fp32. */
export function pattern(count: number, seed = 1): Float32Array {
  let state = seed * 2654435761 + 12345;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 65) / 32 - 1;
  });
}
