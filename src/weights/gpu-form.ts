/** What a weight of codes takes on a GPU, before it is there. */
import type { QuantizedTensor } from './quantized-tensor.ts';

/** Columns that a GPU's kernels read together. */
const CHUNK = 8;

/**
 * Bytes of codes, scales, zero points and biases in the form of `kernels/cuda/coded_matrix.h`, where a code takes 4 or 8 bits, however
 * tightly the file packs it, and a zero point a byte.
 * @returns undefined for a weight that a GPU has as plain elements (`CanKeepCodes` in `kernels/devices/cuda/coded_contents.cc`). Whether
 * a GPTQ file's `g_idx` makes it one is known only once it is read; here it does not.
 */
export function codedBytesOnGpu({ shape, codes, scales, zero, biases }: QuantizedTensor): number | undefined {
  const [rows, columns] = shape.slice(-2) as [number, number];
  if (typeof scales.group === 'number' || columns % CHUNK !== 0) return undefined;
  const [groupRows, groupColumns] = scales.group;
  if (groupRows < rows && !isPowerOfTwo(groupRows)) return undefined;
  if (groupColumns < columns && (groupColumns < CHUNK || !isPowerOfTwo(groupColumns))) return undefined;
  const bytes = (codes.bits <= 4 ? 0.5 : 1) * product(shape);
  const zeroBytes = typeof zero === 'object' ? product(scales.tensor.shape) : 0;
  return bytes + scales.tensor.byteLength + zeroBytes + (biases?.byteLength ?? 0);
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
