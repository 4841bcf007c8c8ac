import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import type { AttributeValue } from '../onnx-model.ts';
import { attend } from '../reference.ts';
import { pattern } from '../stored-tensors.ts';

import { elements, expectClose, float, matrix, runOp, store, stored } from './run-op.ts';

describe('Attention', () => {
  function call(
    sizes: { batch: number; tokens: number; keys: number; heads: number; kvHeads: number; headDim: number },
    attributes: Record<string, AttributeValue> = {},
  ) {
    const { batch, tokens, keys, heads, kvHeads, headDim } = sizes;
    const tensor = (length: number, width: number, seed: number) =>
      new Tensor('float32', pattern(batch * length * width, seed), [batch, length, width]);
    const inputs = {
      q: tensor(tokens, heads * headDim, 1),
      k: tensor(keys, kvHeads * headDim, 2),
      v: tensor(keys, kvHeads * headDim, 3),
    };
    const run = runOp({
      op: 'Attention',
      weights: store([stored('unused', matrix(1, 1, 1))]),
      attributes: { num_heads: heads, kv_num_heads: kvHeads, scale: { float: 2 }, ...attributes },
      inputs,
      outputs: [float('y', 3)],
    });
    const expected = () =>
      attend(
        { ...sizes, rows: Array.from({ length: batch }, () => ({ keys, past: 0 })), scale: 2 },
        inputs.q.data as Float32Array,
        inputs.k.data as Float32Array,
        inputs.v.data as Float32Array,
        (row, key, head) => ((row * keys + key) * kvHeads + head) * headDim,
      );
    return { run, expected };
  }

  it.each([
    { batch: 2, tokens: 19, keys: 19, heads: 4, kvHeads: 4, headDim: 12 },
    { batch: 2, tokens: 50, keys: 50, heads: 2, kvHeads: 2, headDim: 9 },
    { batch: 1, tokens: 5, keys: 33, heads: 6, kvHeads: 2, headDim: 10 },
    { batch: 3, tokens: 1, keys: 7, heads: 4, kvHeads: 1, headDim: 16 },
    { batch: 1, tokens: 2, keys: 1, heads: 1, kvHeads: 1, headDim: 1 },
  ])('lets every query see all keys of its row: %o', async (sizes) => {
    const { run, expected } = call(sizes);
    const { y } = await run;
    expect(y?.dims).toEqual([sizes.batch, sizes.tokens, sizes.heads * sizes.headDim]);
    expectClose(y, expected());
  });

  it('rounds to bfloat16 when asked', async () => {
    const sizes = { batch: 1, tokens: 40, keys: 40, heads: 2, kvHeads: 2, headDim: 24 };
    const exact = elements((await call(sizes).run).y);
    const rounded = elements((await call(sizes, { precision: 1 }).run).y);
    const error = Math.max(...exact.map((value, i) => Math.abs(value - (rounded[i] as number))));
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(2e-2);
  });

  it.each([
    { batch: 1, tokens: 0, keys: 4, heads: 2, kvHeads: 2, headDim: 8 },
    { batch: 0, tokens: 3, keys: 4, heads: 2, kvHeads: 2, headDim: 8 },
  ])('accepts no queries: %o', async (sizes) => {
    const { y } = await call(sizes).run;
    expect(y?.dims).toEqual([sizes.batch, sizes.tokens, 16]);
  });

  it('names an input of the wrong shape and heads that do not divide', async () => {
    const sizes = { batch: 1, tokens: 2, keys: 4, heads: 4, kvHeads: 2, headDim: 8 };
    await expect(call(sizes, { kv_num_heads: 4 }).run).rejects.toThrow(
      /Attention node 'node': input 'k' has shape \[1, 4, 16\]; expected \[1, 4, 32\]/,
    );
    await expect(call(sizes, { kv_num_heads: 3 }).run).rejects.toThrow(
      /'num_heads' is 4; expected a positive multiple of 'kv_num_heads', 3/,
    );
    await expect(call(sizes, { num_heads: 5, kv_num_heads: 5 }).run).rejects.toThrow(
      /input 'q' has shape \[1, 2, 32\]; expected \[batch, tokens, a multiple of 5/,
    );
    await expect(call(sizes, { scale: { float: -1 } }).run).rejects.toThrow(/'scale' is -1/);
  });
});

describe('TopCandidates', () => {
  const run = (logits: Tensor, count: number) =>
    runOp({
      op: 'TopCandidates',
      weights: store([]),
      attributes: {},
      inputs: { logits, candidates: new Tensor('int32', Int32Array.of(count), []) },
      outputs: [float('values', 2), { name: 'ids', type: 'int32', shape: ['rows', 'count'] }],
    });

  it.each([1, 5, 64, 9000])('lists the %i highest of each row as a sort does', async (count) => {
    const [rows, vocab] = [3, 20_011];
    // Rounded, so that there are ties.
    const data = pattern(rows * vocab, 8).map((x) => Math.round(300 * x) / 300);
    const { values, ids } = await run(new Tensor('float32', data, [rows, vocab]), count);
    expect(values?.dims).toEqual([rows, count]);
    for (let row = 0; row < rows; row++) {
      const of = data.subarray(row * vocab, (row + 1) * vocab);
      const order = [...of.keys()].sort((a, b) => (of[b] as number) - (of[a] as number) || a - b);
      const expected = order.slice(0, count);
      expect(elements(ids).slice(row * count, (row + 1) * count)).toEqual(expected);
      expect(elements(values).slice(row * count, (row + 1) * count)).toEqual(expected.map((id) => of[id]));
    }
  });

  it('counts NaN as −∞, and lists what has no number last', async () => {
    const logits = Float32Array.of(Number.NaN, 2, -Infinity, 7, Number.NaN, 7);
    const { values, ids } = await run(new Tensor('float32', logits, [1, 6]), 6);
    expect(elements(ids)).toEqual([3, 5, 1, 0, 2, 4]);
    expect(elements(values)).toEqual([7, 7, 2, -Infinity, -Infinity, -Infinity]);
  });

  it('accepts no rows and no candidates', async () => {
    const { values } = await run(new Tensor('float32', new Float32Array(0), [0, 6]), 2);
    expect(values?.dims).toEqual([0, 2]);
    const { ids } = await run(new Tensor('float32', new Float32Array(12), [2, 6]), 0);
    expect(ids?.dims).toEqual([2, 0]);
  });

  it.each([-1, 7])('refuses %i candidates of six logits', async (count) => {
    const logits = new Tensor('float32', new Float32Array(6), [1, 6]);
    await expect(run(logits, count)).rejects.toThrow(`input 'count' is ${count}; expected 0 to 6`);
  });

  it('refuses logits of another rank', async () => {
    const logits = new Tensor('float32', new Float32Array(6), [1, 2, 3]);
    await expect(run(logits, 1)).rejects.toThrow(/input 'logits' has shape .*expected \[rows, vocab\]/);
  });
});
