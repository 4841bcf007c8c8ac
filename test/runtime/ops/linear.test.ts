import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/errors.ts';
import { Tensor } from '../../../src/runtime/ort.ts';
import type { WeightStore } from '../../../src/runtime/types.ts';
import type { AttributeValue } from '../onnx-model.ts';
import { mapRows, multiply } from '../reference.ts';
import { pattern, type WeightDType } from '../stored-tensors.ts';

import { expectClose, float, matrix, runOp, store, stored } from './run-op.ts';

describe.each<WeightDType>(['F32', 'F16', 'BF16'])('Linear with %s weights', (dtype) => {
  const q = matrix(7, 12, 1);
  const k = matrix(5, 12, 2);
  const bias = pattern(5, 3);

  it('multiplies several matrices, with and without bias, keeping leading dimensions', async () => {
    const weights = store([
      stored('q', q, dtype),
      stored('k', k, dtype),
      { name: 'k.bias', shape: [5], values: bias, dtype },
    ]);
    const x = pattern(2 * 3 * 12, 4);
    const { a, b } = await runOp({
      op: 'Linear',
      weights,
      attributes: {
        weights: ['q', 'k'].map((n) => weights.handle(n)),
        biases: [-1, weights.handle('k.bias')],
      },
      inputs: { x: new Tensor('float32', x, [2, 3, 12]) },
      outputs: [float('a', 3), float('b', 3)],
    });
    expect(a?.dims).toEqual([2, 3, 7]);
    expect(b?.dims).toEqual([2, 3, 5]);
    expectClose(
      a,
      mapRows(x, 12, (row) => multiply(q, row)),
    );
    expectClose(
      b,
      mapRows(x, 12, (row) => multiply(k, row).map((y, i) => y + (bias[i] as number))),
    );
  });

  it('accepts zero tokens', async () => {
    const weights = store([stored('q', q, dtype)]);
    const { y } = await runOp({
      op: 'Linear',
      weights,
      attributes: { weights: [weights.handle('q')] },
      inputs: { x: new Tensor('float32', new Float32Array(0), [0, 12]) },
      outputs: [float('y', 2)],
    });
    expect(y?.dims).toEqual([0, 7]);
    expect(y?.data.length).toBe(0);
  });
});

describe('an op that does not fit its weights', () => {
  const open = async (
    attributes: (weights: WeightStore) => Record<string, AttributeValue>,
    op = 'Linear',
  ) => {
    const weights = store([
      stored('q', matrix(4, 6, 1)),
      stored('other_width', matrix(4, 5, 1)),
      { name: 'vector', shape: [3], values: pattern(3) },
    ]);
    return runOp({
      op,
      weights,
      attributes: attributes(weights),
      inputs: { x: new Tensor('float32', new Float32Array(6), [1, 6]) },
      outputs: [float('y', 2)],
    });
  };

  it('names op, attribute, tensor and both shapes', async () => {
    const run = open((w) => ({ weights: [w.handle('q')], biases: [w.handle('vector')] }));
    await expect(run).rejects.toThrow(EngineError);
    await expect(run).rejects.toThrow(
      /Linear node 'node': attribute 'biases\[0\]': tensor 'vector' has shape \[3\]; expected \[4\]/,
    );
  });

  it('names a matrix of the wrong rank', async () => {
    await expect(open((w) => ({ weights: [w.handle('vector')] }))).rejects.toThrow(
      /'weights\[0\]': tensor 'vector' has shape \[3\]; expected \[any, any\]/,
    );
  });

  it('names an unknown handle', async () => {
    await expect(open(() => ({ weights: [99] }))).rejects.toThrow(
      /'weights\[0\]': handle 99 is not in the weight store/,
    );
  });

  it('names a missing attribute', async () => {
    await expect(open(() => ({}))).rejects.toThrow(/Linear node 'node': ints attribute 'weights' is missing/);
    await expect(open(() => ({}), 'Embedding')).rejects.toThrow(EngineError);
  });

  it('names input and width when x does not fit', async () => {
    await expect(open((w) => ({ weights: [w.handle('other_width')] }))).rejects.toThrow(
      /input 'x' has shape \[1, 6\]; its last dimension must be 5/,
    );
  });
});
