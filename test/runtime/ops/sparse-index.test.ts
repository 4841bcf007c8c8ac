import { describe, expect, it } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import { pattern } from '../stored-tensors.ts';
import { elements, expectClose, float, matrix, runOp, store, stored } from './run-op.ts';

const tensor = (dims: readonly number[], seed: number) =>
  new Tensor(
    'float32',
    pattern(
      dims.reduce((a, b) => a * b, 1),
      seed,
    ),
    dims,
  );
const ints = (values: readonly number[], dims = [values.length]) =>
  new Tensor('int32', Int32Array.from(values), dims);
const longs = (values: readonly (number | bigint)[], dims = [values.length]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
const data = (value: Tensor | undefined) => value?.data as Float32Array;

describe('NgramRows', () => {
  const END = 9;
  const [MULTIPLIERS, SIZES, OFFSETS] = [
    [3n, 2n ** 45n - 1n, 2n ** 62n + 12345n],
    [53n, 59n, 61n, 67n],
    [0n, 53n, 112n, 173n],
  ] as const;
  const call = (
    ids: readonly number[],
    preceding: readonly number[][],
    sizes: readonly bigint[] = SIZES,
  ) => ({
    op: 'NgramRows',
    weights: store([]),
    attributes: { end_id: END },
    inputs: {
      ids: longs(ids),
      preceding: longs(preceding.flat(), [preceding.length, ids.length]),
      multipliers: longs(MULTIPLIERS),
      sizes: longs(sizes),
      offsets: longs(OFFSETS),
    },
    outputs: [{ name: 'rows', type: 'int64' as const, shape: ['tokens', 'heads'] }],
  });
  /** Products and sums of 64 bits, by numbers of any size. */
  const hashed = (ids: readonly number[]) =>
    SIZES.map((size, head) => {
      const order = head < 2 ? 2 : 3;
      let mixed = 0n;
      for (let i = 0; i < order; i++)
        mixed ^= BigInt.asIntN(64, BigInt(ids[i] as number) * (MULTIPLIERS[i] as bigint));
      return (((mixed % size) + size) % size) + (OFFSETS[head] as bigint);
    });

  it('hashes the last ids in 64 bits, whatever wraps round', async () => {
    const [ids, before, two] = [
      [1, 248_319, 7],
      [5, 248_000, 248_319],
      [6, 77, 1],
    ] as const;
    const { rows } = await runOp(call(ids, [[...before], [...two]]));
    expect(elements<bigint>(rows)).toEqual(
      ids.flatMap((id, t) => hashed([id, before[t] as number, two[t] as number])),
    );
  });

  it('does not reach over the end of a text, or before the first token', async () => {
    const { rows } = await runOp(
      call(
        [4, 4, 4, END],
        [
          [END, 5, -1, 5],
          [6, END, -1, 6],
        ],
      ),
    );
    expect(elements<bigint>(rows)).toEqual(
      [
        [4, END, END],
        [4, 5, END],
        [4, END, END],
        [END, 5, 6],
      ].flatMap(hashed),
    );
  });

  it('names what does not fit', async () => {
    await expect(runOp(call([1], [[2]]))).rejects.toThrow(/'preceding' has shape \[1, 1\].*\[2, 1\]/);
    await expect(runOp(call([1], [[2], [3]], [0n, ...SIZES.slice(1)]))).rejects.toThrow(/'sizes' has 0/);
    await expect(runOp(call([1], [[2], [3]], SIZES.slice(1)))).rejects.toThrow(/'multipliers' and 'sizes'/);
  });
});

describe('Embedding', () => {
  const [first, second, last] = [matrix(4, 3, 1), matrix(4, 3, 2), matrix(2, 3, 3)];
  const weights = () => store([stored('a', first), stored('b', second, 'BF16'), stored('c', last)]);
  const call = (ids: readonly number[], parts: number[]) => ({
    op: 'Embedding',
    weights: weights(),
    attributes: { weight: 0, parts },
    inputs: { ids: longs(ids) },
    outputs: [float('rows', 2)],
  });

  it('looks rows up in a table that is stored in parts', async () => {
    const { rows } = await runOp(call([0, 9, 3, 8], [2 - 1, 2]));
    const row = ({ values }: typeof first, n: number) => [...values.slice(3 * n, 3 * n + 3)];
    expectClose(rows, [...row(first, 0), ...row(last, 1), ...row(first, 3), ...row(last, 0)]);
  });

  it('refuses rows behind the last part, and parts of other sizes', async () => {
    await expect(runOp(call([10], [1, 2]))).rejects.toThrow(/id 10 .* table of 10 rows/);
    await expect(runOp(call([0], [2, 1]))).rejects.toThrow(/'parts\[1\]' follows a table of 2 rows/);
  });
});

const [HEADS, DIM, PAIRS, BLOCK, TOP, POOL] = [2, 4, 1, 2, 2, 16];

describe('BlockIndex and CachedAttention', () => {
  /** Of one row: `count` tokens behind `past`. */
  const rows = (past: number, count: number) => ({
    row_starts: ints([0, count]),
    past_lengths: ints([past]),
    block_tables: ints([1, 0], [1, 2]),
  });
  const norms = () =>
    store(
      [stored('q', matrix(1, DIM, 8)), stored('k', matrix(1, DIM, 9))].map((t) => ({ ...t, shape: [DIM] })),
    );
  const index = (keys: Tensor, from: number, count: number, tables: Tensor[]) => {
    const slice = (of: Tensor) => {
      const width = of.dims[1] as number;
      return new Tensor('float32', data(of).slice(from * width, (from + count) * width), [count, width]);
    };
    const [q, k, cos, sin, blockCos, blockSin] = tables.map(slice) as Tensor[];
    return {
      op: 'BlockIndex',
      weights: norms(),
      attributes: { heads: HEADS, block: BLOCK, top: TOP, q_norm: 0, k_norm: 1, epsilon: { float: 1e-6 } },
      inputs: {
        ...({ q, k, cos, sin, block_cos: blockCos, block_sin: blockSin } as Record<string, Tensor>),
        past_keys: keys,
        ...rows(from, count),
      },
      outputs: [{ name: 'selected', type: 'int32' as const, shape: ['t', 'n'] }, float('present_keys', 4)],
    };
  };

  it('chooses the same blocks for a prompt in one pass and in pieces', async () => {
    const tokens = 20;
    const angles = tensor([tokens, PAIRS], 3);
    const tables = [
      ...[tensor([tokens, HEADS * DIM], 1), tensor([tokens, DIM], 2)],
      ...[angles, tensor([tokens, PAIRS], 4), tensor([tokens, PAIRS], 5), tensor([tokens, PAIRS], 6)],
    ];
    const fresh = () => tensor([2, 1, POOL, DIM], 7);
    const whole = await runOp(index(fresh(), 0, tokens, tables));
    const lists = elements(whole.selected);
    let keys: Tensor = fresh();
    const pieces: number[] = [];
    for (const [from, to] of [
      [0, 1],
      [1, 4],
      [4, 5],
      [5, 16],
      [16, 17],
      [17, 20],
    ] as const) {
      const { selected, present_keys } = await runOp(index(keys, from, to - from, tables));
      // A pass lists no more blocks than are complete in it.
      const wide = elements<number>(selected);
      const width = wide.length / (to - from);
      for (let t = 0; t < to - from; t++)
        for (let n = 0; n < TOP; n++) pieces.push(n < width ? (wide[t * width + n] as number) : -1);
      keys = present_keys as Tensor;
    }
    expect(pieces).toEqual(lists);
    expectClose(keys, elements(whole.present_keys));
    // Two blocks are complete with four tokens: until the sixth there is nothing to choose.
    expect(lists.slice(0, 5 * TOP)).toEqual(Array(5 * TOP).fill(-1));
    for (let t = 5; t < tokens; t++) {
      const [a, b] = lists.slice(t * TOP, t * TOP + TOP) as [number, number];
      expect(a).toBeGreaterThanOrEqual(0);
      expect(b).toBeGreaterThan(a);
      expect(b).toBeLessThan(Math.floor((t + 1) / BLOCK));
    }
  });

  it('takes no more room for its list than there are blocks, whatever the budget', async () => {
    const tables = [HEADS * DIM, DIM, PAIRS, PAIRS, PAIRS, PAIRS].map((width, seed) =>
      tensor([9, width], seed),
    );
    const call = index(tensor([2, 1, POOL, DIM], 7), 4, 5, tables);
    const { selected } = await runOp({ ...call, attributes: { ...call.attributes, top: 2 ** 40 } });
    expect([selected?.dims, elements(selected)]).toEqual([[5, 4], Array(20).fill(-1)]);
  });

  it('attends to the blocks that are listed and to what is behind the last complete one', async () => {
    const [tokens, past] = [3, 6];
    const [q, k, v] = [
      tensor([tokens, 4 * DIM], 1),
      tensor([tokens, 2 * DIM], 2),
      tensor([tokens, 2 * DIM], 3),
    ];
    const angles = new Tensor('float32', new Float32Array(0), [tokens, 0]);
    const cache = [tensor([2, 2, POOL, DIM], 4), tensor([2, 2, POOL, DIM], 5)] as const;
    const selected = [-1, -1, 0, 2, 1, 3];
    const call = (list: readonly number[]) => ({
      op: 'CachedAttention',
      weights: store([]),
      attributes: { num_heads: 4, kv_num_heads: 2, scale: { float: 0.5 }, selected_block: BLOCK },
      inputs: {
        ...{ q, k, v, cos: angles, sin: angles, past_key: cache[0], past_value: cache[1] },
        ...rows(past, tokens),
        selected: ints(list, [tokens, TOP]),
      },
      outputs: [float('attended', 2), float('present_key', 4), float('present_value', 4)],
    });
    const found = await runOp(call(selected));
    const seen = [
      [0, 1, 2, 3, 4, 5, 6],
      [0, 1, 4, 5],
      [2, 3, 6, 7, 8],
    ];
    const at = (of: Tensor | undefined, head: number, position: number) => {
      // The row's first positions lie in block 1.
      const start = ((position < POOL ? 1 : 0) * 2 + head) * POOL + (position % POOL);
      return [...data(of).subarray(start * DIM, (start + 1) * DIM)];
    };
    const expected: number[] = [];
    for (const [t, positions] of seen.entries())
      for (let head = 0; head < 4; head++) {
        const query = data(q).subarray((t * 4 + head) * DIM, (t * 4 + head + 1) * DIM);
        const weights = positions.map((p) =>
          Math.exp(
            0.5 * at(found.present_key, head >> 1, p).reduce((s, x, d) => s + x * (query[d] as number), 0),
          ),
        );
        const total = weights.reduce((a, b) => a + b, 0);
        for (let d = 0; d < DIM; d++)
          expected.push(
            positions.reduce(
              (sum, p, i) =>
                sum + ((weights[i] as number) / total) * (at(found.present_value, head >> 1, p)[d] as number),
              0,
            ),
          );
      }
    expectClose(found.attended, expected);
    for (const wrong of [
      [-1, -1, 2, 0, 1, 3],
      [-1, -1, 0, 4, 1, 3],
      [-1, -1, 0, 2, 1, -1],
    ])
      await expect(runOp(call(wrong))).rejects.toThrow(
        /'selected' has block -?\d+ after \d+ for token \d of row 0/,
      );
  });
});
