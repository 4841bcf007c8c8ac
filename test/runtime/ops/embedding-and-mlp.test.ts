import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import { gatedMlp, mapRows, multiply, sigmoid } from '../reference.ts';
import { pattern, type WeightDType } from '../stored-tensors.ts';

import { elements, expectClose, float, matrix, runOp, store, stored } from './run-op.ts';

describe('Embedding', () => {
  const table = matrix(9, 6, 5);

  it.each<WeightDType>(['F32', 'F16', 'BF16'])('widens rows of a %s table', async (dtype) => {
    const weights = store([stored('table', table, dtype)]);
    const ids = [8, 0, 3, 3];
    const { y } = await runOp({
      op: 'Embedding',
      weights,
      attributes: { weight: weights.handle('table') },
      inputs: { ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [2, 2]) },
      outputs: [float('y', 3)],
    });
    expect(y?.dims).toEqual([2, 2, 6]);
    expect(elements(y)).toEqual(ids.flatMap((id) => [...table.values.subarray(id * 6, id * 6 + 6)]));
  });

  it.each([9n, -1n])('names id %s and its position when it is outside the table', async (id) => {
    const weights = store([stored('table', table)]);
    const run = runOp({
      op: 'Embedding',
      weights,
      attributes: { weight: weights.handle('table') },
      inputs: { ids: new Tensor('int64', BigInt64Array.from([1n, id]), [2]) },
      outputs: [float('y', 2)],
    });
    await expect(run).rejects.toThrow(new RegExp(`id ${id} at position 1 is outside the table of 9 rows`));
  });
});

describe('GatedMlp', () => {
  const mlp = { gate: matrix(10, 6, 1), up: matrix(10, 6, 2), down: matrix(6, 10, 3) };
  const outputGate = matrix(1, 6, 4);

  it.each<[WeightDType, boolean]>([
    ['F32', false],
    ['BF16', true],
    ['F16', true],
  ])('with %s weights, output gate %s', async (dtype, gated) => {
    const weights = store([
      stored('gate', mlp.gate, dtype),
      stored('up', mlp.up, dtype),
      stored('down', mlp.down, dtype),
      stored('output_gate', outputGate, dtype),
    ]);
    const x = pattern(4 * 6, 9);
    const names = ['gate', 'up', 'down', ...(gated ? ['output_gate'] : [])];
    const { y } = await runOp({
      op: 'GatedMlp',
      weights,
      attributes: Object.fromEntries(names.map((name) => [name, weights.handle(name)])),
      inputs: { x: new Tensor('float32', x, [4, 6]) },
      outputs: [float('y', 2)],
    });
    const scale = (row: Float32Array) => (gated ? sigmoid(multiply(outputGate, row)[0] as number) : 1);
    expectClose(
      y,
      mapRows(x, 6, (row) => gatedMlp(mlp, row).map((v) => v * scale(row))),
    );
  });
});
