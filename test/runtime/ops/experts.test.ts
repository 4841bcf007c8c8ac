import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import { gatedMlp, type Matrix, mapRows, multiply, route, sigmoid } from '../reference.ts';
import { pattern, type TestTensor, type WeightDType } from '../stored-tensors.ts';

import { elements, expectClose, float, matrix, openOp, runOp, store, stored } from './run-op.ts';

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

  /** Of the last call, by implementation. */
  let calls: readonly number[] = [];

  function node(layout: keyof typeof layouts, dtype: WeightDType, implementation: number, routing: Routing) {
    const { weights, attributes } = layouts[layout](dtype);
    const tokens = routing.x.length / H;
    return {
      op: 'MoeExperts',
      weights,
      attributes: { ...attributes, layout, num_experts: E, hidden: H, intermediate: I },
      inputs: {
        x: new Tensor('float32', routing.x, [tokens, H]),
        indices: new Tensor('int32', Int32Array.from(routing.indices), [tokens, routing.k]),
        scores: new Tensor('float32', routing.scores, [tokens, routing.k]),
        implementation: new Tensor('int32', Int32Array.of(implementation), []),
      },
      outputs: [float('y', 2)],
      onExpertsCalls: (counted: readonly number[]) => {
        calls = counted;
      },
    };
  }
  const call = (...parameters: Parameters<typeof node>) => runOp(node(...parameters));

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
      const { y } = await call(layout, dtype, implementation, routing);
      expectClose(y, expected(routing));
      expect(calls).toEqual([0, 1, 2].map((i) => (i === implementation ? 1 : 0)));
    });

    it('accepts zero tokens', async () => {
      const nothing = { x: new Float32Array(0), indices: [], scores: new Float32Array(0), k: 2 };
      const { y } = await call('separate', 'F32', implementation, nothing);
      expect(y?.dims).toEqual([0, H]);
    });
  });

  /** A node of layout `separate` with an expert for all tokens, some of its tensors perhaps in another shape. */
  function nodeWithShared(shapes: Readonly<Record<string, readonly number[]>> = {}) {
    const wide = {
      shared_gate: matrix(9, H, 40),
      shared_up: matrix(9, H, 41),
      shared_down: matrix(H, 9, 42),
    };
    const all = { ...wide, shared_output_gate: matrix(1, H, 43) };
    const parts = (['gate', 'up', 'down'] as const).flatMap((part) =>
      experts.map((expert, e) => stored(`${part}.${e}`, expert[part])),
    );
    const shared = Object.entries(all).map(([name, values]) => ({
      ...stored(name, values),
      ...(shapes[name] && { shape: [...shapes[name]] }),
    }));
    const weights = store([...parts, ...shared]);
    const handles = (part: string) => experts.map((_, e) => weights.handle(`${part}.${e}`));
    const { attributes, ...rest } = node('separate', 'F32', 2, routing);
    const own = Object.fromEntries(Object.keys(all).map((name) => [name, weights.handle(name)]));
    const routed = { gate: handles('gate'), up: handles('up'), down: handles('down') };
    return { all, run: { ...rest, weights, attributes: { ...attributes, ...routed, ...own } } };
  }

  it('adds what an expert gives that all tokens go to', async () => {
    const { all, run } = nodeWithShared();
    const mlp = { gate: all.shared_gate, up: all.shared_up, down: all.shared_down };
    const shared = mapRows(routing.x, H, (row) => {
      const scale = sigmoid(multiply(all.shared_output_gate, row)[0] as number);
      return gatedMlp(mlp, row).map((value) => value * scale);
    });
    const routed = expected(routing);
    const { y } = await runOp(run);
    expectClose(
      y,
      routed.map((value, i) => value + (shared[i] as number)),
    );
  });

  it.each([
    ['shared_gate', [H, 9], `expected [any, ${H}]`],
    ['shared_down', [9, H], `expected [${H}, 9]`],
    ['shared_output_gate', [H, 1], `expected [1, ${H}]`],
  ] as const)('names %s of another shape', async (name, shape, wanted) => {
    const { run } = nodeWithShared({ [name]: shape });
    await expect(runOp(run)).rejects.toThrow(
      `attribute '${name}': tensor '${name}' has shape [${shape.join(', ')}]; ${wanted}`,
    );
  });

  it('counts the calls of runs that overlap apart', async () => {
    const { inputs, ...rest } = node('separate', 'F32', 0, routing);
    const session = await openOp({ ...rest, inputs });
    const counted = await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const implementation = new Tensor('int32', Int32Array.of(i % 3), []);
        let own: readonly number[] = [];
        const onExpertsCalls = (heard: readonly number[]) => {
          own = heard;
        };
        await session.run({ ...inputs, implementation }, { y: null }, { onExpertsCalls });
        return own;
      }),
    );
    expect(counted).toEqual(counted.map((_, i) => [0, 1, 2].map((n) => (n === i % 3 ? 1 : 0))));
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
