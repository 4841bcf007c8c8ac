import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { type AttributeValue, encodeModel, type ModelValue } from './onnx-model.ts';
import { attend, gatedMlp, type Matrix, mapRows, multiply, route, sigmoid } from './reference.ts';
import {
  pattern,
  type TestTensor,
  temporaryFolder,
  type WeightDType,
  writeTensors,
} from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let files = 0;
function store(tensors: TestTensor[]): WeightStore {
  const opened = openWeightStore(writeTensors(join(folder, `weights-${files++}.bin`), tensors));
  cleanups.push(() => opened.dispose());
  return opened;
}

interface OpCall {
  op: string;
  weights: WeightStore;
  attributes: Record<string, AttributeValue>;
  inputs: Record<string, Tensor>;
  outputs: ModelValue[];
}

/** Builds a graph of one node and runs it. */
async function runOp({ op, weights, attributes, inputs, outputs }: OpCall): Promise<Record<string, Tensor>> {
  const names = Object.keys(inputs);
  const model = encodeModel({
    inputs: names.map((name) => {
      const tensor = inputs[name] as Tensor;
      return {
        name,
        type: tensor.type as ModelValue['type'],
        shape: tensor.dims.map((_, d) => `${name}${d}`),
      };
    }),
    outputs,
    nodes: [
      {
        op,
        name: 'node',
        inputs: names,
        outputs: outputs.map((o) => o.name),
        attributes,
      },
    ],
  });
  const session = await openSession(model, { store: weights, threads: 2 });
  cleanups.push(() => session.dispose());
  return session.run(inputs, Object.fromEntries(outputs.map((o) => [o.name, null])));
}

const float = (name: string, rank: number): ModelValue => ({
  name,
  type: 'float32',
  shape: Array.from({ length: rank }, (_, d) => `${name}_${d}`),
});

function matrix(rows: number, cols: number, seed: number): Matrix {
  return { rows, cols, values: pattern(rows * cols, seed) };
}

function stored(name: string, { rows, cols, values }: Matrix, dtype: WeightDType = 'F32'): TestTensor {
  return { name, shape: [rows, cols], values, dtype };
}

function elements<T extends number | bigint = number>(tensor: Tensor | undefined): T[] {
  if (tensor === undefined) throw new Error('the run returned no such tensor');
  return [...(tensor.data as unknown as Iterable<T>)];
}

function expectClose(actual: Tensor | undefined, expected: readonly number[]) {
  const values = elements(actual);
  expect(values.length).toBe(expected.length);
  const worst = Math.max(
    0,
    ...expected.map((e, i) => Math.abs(e - (values[i] as number)) / (1 + Math.abs(e))),
  );
  expect(worst).toBeLessThan(1e-5);
}

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

describe('MoeRouter', () => {
  const weight = matrix(8, 6, 1);

  it.each([
    [1, false],
    [3, true],
    [8, true],
  ])('routes to the best %i of 8 experts, normalised %s', async (k, normalize) => {
    const weights = store([stored('router', weight)]);
    const x = pattern(5 * 6, 2);
    const { logits, indices, scores } = await runOp({
      op: 'MoeRouter',
      weights,
      attributes: { weight: weights.handle('router'), top_k: k, normalize: Number(normalize) },
      inputs: { x: new Tensor('float32', x, [5, 6]) },
      outputs: [float('logits', 2), { ...float('indices', 2), type: 'int32' }, float('scores', 2)],
    });
    const expected = mapRows(x, 6, (row) => multiply(weight, row));
    expectClose(logits, expected);
    const routes = Array.from({ length: 5 }, (_, t) => route(expected.slice(t * 8, t * 8 + 8), k, normalize));
    expect(elements(indices)).toEqual(routes.flatMap((r) => r.indices));
    expectClose(
      scores,
      routes.flatMap((r) => r.weights),
    );
  });

  it('refuses more experts a token than there are', async () => {
    const weights = store([stored('router', weight)]);
    const run = runOp({
      op: 'MoeRouter',
      weights,
      attributes: { weight: weights.handle('router'), top_k: 9 },
      inputs: { x: new Tensor('float32', new Float32Array(6), [1, 6]) },
      outputs: [float('logits', 2), { ...float('indices', 2), type: 'int32' }, float('scores', 2)],
    });
    await expect(run).rejects.toThrow(/MoeRouter node 'node'.*'top_k' is 9; expected 1 to 8/);
  });
});

describe('MoeExperts', () => {
  const [E, H, I] = [4, 6, 5];
  const experts = Array.from({ length: E }, (_, e) => ({
    gate: matrix(I, H, 10 + e),
    up: matrix(I, H, 20 + e),
    down: matrix(H, I, 30 + e),
  }));

  function transpose({ values, rows, cols }: Matrix): Float32Array {
    return Float32Array.from(values, (_, i) => values[(i % rows) * cols + Math.floor(i / rows)] as number);
  }

  function concat(parts: Float32Array[]): Float32Array {
    return Float32Array.from(parts.flatMap((part) => [...part]));
  }

  /** The same experts in each of the three layouts on disk. */
  const layouts = {
    separate: (dtype: WeightDType) => {
      const parts = (['gate', 'up', 'down'] as const).flatMap((part) =>
        experts.map((expert, e) => stored(`${part}.${e}`, expert[part], dtype)),
      );
      const weights = store(parts);
      const handles = (part: string) => experts.map((_, e) => weights.handle(`${part}.${e}`));
      return { weights, attributes: { gate: handles('gate'), up: handles('up'), down: handles('down') } };
    },
    fused: (dtype: WeightDType) =>
      fused(
        {
          shape: [E, 2 * I, H],
          values: concat(experts.flatMap(({ gate, up }) => [gate.values, up.values])),
          dtype,
        },
        { shape: [E, H, I], values: concat(experts.map(({ down }) => down.values)), dtype },
      ),
    fused_transposed: (dtype: WeightDType) =>
      fused(
        {
          shape: [E, H, 2 * I],
          values: concat(
            experts.map(({ gate, up }) =>
              transpose({ rows: 2 * I, cols: H, values: concat([gate.values, up.values]) }),
            ),
          ),
          dtype,
        },
        { shape: [E, I, H], values: concat(experts.map(({ down }) => transpose(down))), dtype },
      ),
  };

  function fused(gateUp: Omit<TestTensor, 'name'>, down: Omit<TestTensor, 'name'>) {
    const weights = store([
      { name: 'gate_up', ...gateUp },
      { name: 'down', ...down },
    ]);
    return { weights, attributes: { gate: [weights.handle('gate_up')], down: [weights.handle('down')] } };
  }

  interface Routing {
    x: Float32Array;
    indices: number[];
    scores: Float32Array;
    k: number;
  }

  function call(layout: keyof typeof layouts, dtype: WeightDType, implementation: number, routing: Routing) {
    const { weights, attributes } = layouts[layout](dtype);
    const tokens = routing.x.length / H;
    return runOp({
      op: 'MoeExperts',
      weights,
      attributes: { ...attributes, layout, num_experts: E, hidden: H, intermediate: I },
      inputs: {
        x: new Tensor('float32', routing.x, [tokens, H]),
        indices: new Tensor('int32', Int32Array.from(routing.indices), [tokens, routing.k]),
        scores: new Tensor('float32', routing.scores, [tokens, routing.k]),
        implementation: new Tensor('int32', Int32Array.of(implementation), []),
        calls: new Tensor('int64', BigInt64Array.of(5n, 6n, 7n), [3]),
      },
      outputs: [float('y', 2), { name: 'calls_after', type: 'int64', shape: [3] }],
    });
  }

  function expected({ x, indices, scores, k }: Routing): number[] {
    return mapRows(x, H, (row, t) => {
      const sum = new Array<number>(H).fill(0);
      for (let j = 0; j < k; j++) {
        const y = gatedMlp(experts[indices[t * k + j] as number] as (typeof experts)[0], row);
        for (let h = 0; h < H; h++)
          sum[h] = (sum[h] as number) + (scores[t * k + j] as number) * (y[h] as number);
      }
      return sum;
    });
  }

  const routing: Routing = { x: pattern(3 * H, 7), indices: [0, 3, 3, 1, 0, 1], scores: pattern(6, 8), k: 2 };

  describe.each([0, 1, 2])('implementation %i', (implementation) => {
    it.each(
      (['separate', 'fused', 'fused_transposed'] as const).flatMap((layout) =>
        (['F32', 'F16', 'BF16'] as const).map((dtype) => [layout, dtype] as const),
      ),
    )('sums the experts of layout %s, %s', async (layout, dtype) => {
      const { y, calls_after } = await call(layout, dtype, implementation, routing);
      expectClose(y, expected(routing));
      const counts = [5n, 6n, 7n].map((n, i) => (i === implementation ? n + 1n : n));
      expect(elements<bigint>(calls_after)).toEqual(counts);
    });

    it('accepts zero tokens', async () => {
      const nothing = { x: new Float32Array(0), indices: [], scores: new Float32Array(0), k: 2 };
      const { y } = await call('separate', 'F32', implementation, nothing);
      expect(y?.dims).toEqual([0, H]);
    });
  });

  it('names an expert index outside the range', async () => {
    const run = call('separate', 'F32', 0, { ...routing, indices: [0, 3, 3, 4, 0, 1] });
    await expect(run).rejects.toThrow(
      /MoeExperts node 'node': expert index 4 at position 3 is outside \[0, 4\)/,
    );
  });

  it.each([-1, 3])('names implementation %i', async (implementation) => {
    const run = call('separate', 'F32', implementation, routing);
    await expect(run).rejects.toThrow(
      new RegExp(`'implementation' is ${implementation}; expected 0 \\(eager\\)`),
    );
  });
});

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
