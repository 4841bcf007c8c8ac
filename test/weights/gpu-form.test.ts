import { describe, expect, it } from 'vitest';
import { type DType, ELEMENT_TYPES } from '../../src/dtype.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { codedBytesOnGpu } from '../../src/weights/gpu-form.ts';
import type { QuantizedTensor } from '../../src/weights/quantized-tensor.ts';

const tensor = (
  name: string,
  stored: TensorInfo['dtype'],
  shape: readonly number[],
  dtype: DType,
): TensorInfo => {
  const byteLength = ELEMENT_TYPES[dtype].bytes * shape.reduce((a, b) => a * b, 1);
  return { ...{ name, file: 'f', offset: 0, shape, byteLength }, dtype: stored };
};

/** A matrix [64, 96] of so many bits, scaled in groups of columns as MLX stores it. */
function weight(bits: number, more: Partial<QuantizedTensor> = {}, columns = 32): QuantizedTensor {
  const grid = [64, Math.ceil(96 / columns)];
  return {
    ...{ name: 'w', shape: [64, 96] },
    codes: { tensor: tensor('w', 'U32', [64, 3 * bits], 'float32'), type: 'uint', bits, order: 'rows' },
    scales: { tensor: tensor('s', 'F16', grid, 'float16'), type: 'float', group: [1, columns] },
    ...more,
  };
}

const ELEMENTS = 64 * 96;
const SCALES = 64 * 3 * 2;

describe('bytes of codes on a GPU', () => {
  it.each([2, 3, 4])('are half a byte for a code of %d bits', (bits) => {
    expect(codedBytesOnGpu(weight(bits))).toBe(ELEMENTS / 2 + SCALES);
  });

  it.each([5, 6, 8])('are one byte for a code of %d bits', (bits) => {
    expect(codedBytesOnGpu(weight(bits))).toBe(ELEMENTS + SCALES);
  });

  it('count biases as they are stored, and a byte for each zero point', () => {
    const biases = tensor('b', 'F16', [64, 3], 'float16');
    expect(codedBytesOnGpu(weight(4, { biases }))).toBe(ELEMENTS / 2 + 2 * SCALES);
    const zero = { tensor: tensor('z', 'I32', [8, 3], 'float32'), order: 'rows' } as const;
    expect(codedBytesOnGpu(weight(4, { zero }))).toBe(ELEMENTS / 2 + SCALES + 64 * 3);
  });

  it('are unknown where a GPU has elements: groups across rows, or of a size that no shift finds', () => {
    const { scales } = weight(4);
    expect(codedBytesOnGpu(weight(4, { scales: { ...scales, group: 64 } }))).toBeUndefined();
    expect(codedBytesOnGpu(weight(4, {}, 48))).toBeUndefined();
    expect(codedBytesOnGpu(weight(4, {}, 4))).toBeUndefined();
    expect(codedBytesOnGpu(weight(4, { scales: { ...scales, group: [48, 32] } }))).toBeUndefined();
    expect(codedBytesOnGpu(weight(4, { shape: [64, 92] }))).toBeUndefined();
    expect(codedBytesOnGpu(weight(4, {}, 1024))).toBe(ELEMENTS / 2 + 64 * 2);
  });
});
