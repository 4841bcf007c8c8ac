/** Weights stored in 8 bits, in files that go after the test. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { TensorInfo } from '../../../src/safetensors/types.ts';
import type { QuantizedTensor } from '../../../src/weights/quantized-tensor.ts';
import { pattern, temporaryFolder, writeTensors } from '../stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

let files = 0;

/** A weight in 8 bits with a scale for each block of 4 × 4 or another size, last dimensions first. */
export function int8(name: string, shape: number[], block = 4): QuantizedTensor {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const count = shape.reduce((a, b) => a * b, 1);
  const matrices = count / rows / columns;
  const file = join(folder, `${files++}.bin`);
  writeFileSync(
    file,
    Int8Array.from(pattern(count, files), (value) => value * 100),
  );
  const codes: TensorInfo = { name: `${name}.codes`, file, offset: 0, byteLength: count, dtype: 'I8', shape };
  const grid = [matrices, Math.ceil(rows / block), Math.ceil(columns / block)];
  const scales = pattern(
    grid.reduce((a, b) => a * b, 1),
    files + 50,
  );
  const [tensor] = writeTensors(join(folder, `${files++}.bin`), [
    { name: `${name}.scales`, shape: grid, values: scales },
  ]);
  return {
    name,
    shape,
    codes: { tensor: codes, type: 'int', bits: 8, order: 'rows' },
    scales: { tensor: tensor as TensorInfo, type: 'float', group: [block, block], divisor: 64 },
  };
}
