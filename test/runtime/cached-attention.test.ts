import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Tensor } from '../../src/runtime/ort.ts';
import type { Session } from '../../src/runtime/types.ts';
import type { ModelNode } from './onnx-model.ts';
import {
  type CacheType,
  elements,
  Graphs,
  type Heads,
  matrix,
  names,
  OUTPUTS,
  type Part,
  Pool,
  parts,
  SCALE,
  shuffled,
  type Tokens,
  totals,
  value,
  values,
  worst,
} from './paged-cache.ts';
import { pattern } from './stored-tensors.ts';

const graphs = new Graphs();
const open = (heads: Heads) => graphs.open(heads);
afterEach(() => graphs.closeSessions());
afterAll(() => graphs.close());

/** One row over ONNX Runtime's GroupQueryAttention, whose cache is of one piece. */
class Theirs {
  readonly key: Tensor;
  readonly value: Tensor;
  readonly #session: Session;

  private constructor(session: Session, { kvHeads, headDim }: Heads, capacity: number) {
    this.#session = session;
    const shape = [1, kvHeads, capacity, headDim];
    const zeros = () => new Tensor('float32', new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);
    [this.key, this.value] = [zeros(), zeros()];
  }

  static async open(heads: Heads, capacity: number): Promise<Theirs> {
    const inputs = [
      ...values(['q', 'k', 'v'], 'float32', 3),
      ...values(['past_key', 'past_value'], 'float32', 4),
      value('last_positions', 'int32', 1),
      value('total_length', 'int32', 0),
    ];
    const outputs = [value('attended', 'float32', 3), ...OUTPUTS.slice(1)];
    const node: ModelNode = {
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      name: 'node',
      inputs: names(inputs),
      outputs: names(outputs),
      attributes: {
        num_heads: heads.heads,
        kv_num_heads: heads.kvHeads,
        scale: { float: SCALE },
        local_window_size: heads.window ?? -1,
      },
    };
    return new Theirs(await graphs.openGraph(inputs, outputs, [node]), heads, capacity);
  }

  async run(tokens: Tokens): Promise<number[]> {
    if (tokens.count === 0) return [];
    const total = tokens.past + tokens.count;
    const fresh = (data: Float32Array) =>
      new Tensor('float32', data, [1, tokens.count, data.length / tokens.count]);
    const { attended } = await this.#session.run(
      {
        q: fresh(tokens.queries),
        k: fresh(tokens.keys),
        v: fresh(tokens.v),
        past_key: this.key,
        past_value: this.value,
        last_positions: new Tensor('int32', Int32Array.of(total - 1), [1]),
        total_length: new Tensor('int32', Int32Array.of(total), []),
      },
      { attended: null, present_key: this.key, present_value: this.value },
    );
    return elements(attended);
  }

  /** The first positions, as {@link Pool.row}. */
  row(tensor: Tensor, length: number): number[] {
    const [, kvHeads, capacity, headDim] = tensor.dims as [number, number, number, number];
    const data = tensor.data as Float32Array;
    return Array.from({ length: kvHeads }, (_, head) => head * capacity * headDim).flatMap((from) => [
      ...data.subarray(from, from + length * headDim),
    ]);
  }
}

const cases: [string, Heads, number, Part[][]][] = [
  [
    'a prompt, chunks with a past, then single tokens',
    { heads: 4, kvHeads: 2, headDim: 16 },
    16,
    [parts(37), parts(9), parts(2), parts(1), parts(1)],
  ],
  [
    'prompts of different lengths',
    { heads: 6, kvHeads: 2, headDim: 8 },
    16,
    [parts(19, 5, 12), parts(1, 1, 1), parts(1, 1, 1)],
  ],
  [
    'chunks of prompts beside decoding rows',
    { heads: 4, kvHeads: 1, headDim: 16 },
    32,
    [
      parts(40, 1),
      parts(1, 7, 25),
      parts(1, 1, 33),
      [
        { row: 2, tokens: 1 },
        { row: 0, tokens: 12 },
      ],
      parts(3, 0, 1),
    ],
  ],
  [
    'a sliding window',
    { heads: 2, kvHeads: 1, headDim: 24, window: 7 },
    16,
    [parts(30), parts(11), parts(1)],
  ],
  [
    'a sliding window over rows of different lengths',
    { heads: 4, kvHeads: 4, headDim: 8, window: 5 },
    64,
    [parts(16, 3), parts(1, 1), parts(1, 20)],
  ],
  ['one token prompts', { heads: 2, kvHeads: 2, headDim: 8 }, 16, [parts(1, 1), parts(1, 1)]],
  [
    'norms over heads',
    { heads: 4, kvHeads: 2, headDim: 40, norms: { q: pattern(40, 50), k: pattern(40, 51) } },
    16,
    [parts(21), parts(6), parts(1)],
  ],
  [
    'a long prompt with norms, shared by threads',
    { heads: 4, kvHeads: 1, headDim: 64, norms: { q: pattern(64, 52), k: pattern(64, 53) } },
    256,
    [parts(290), parts(1)],
  ],
  [
    'more keys than are prepared at a time',
    { heads: 2, kvHeads: 1, headDim: 8 },
    64,
    [parts(1100), parts(1)],
  ],
];

describe('CachedAttention', () => {
  it.each(cases)("agrees with ONNX Runtime's GroupQueryAttention: %s", async (_, heads, blockSize, steps) => {
    const lengths = totals(steps);
    const pool = new Pool(await open(heads), heads, blockSize, shuffled(blockSize, lengths));
    const theirs = await Promise.all(lengths.map((length) => Theirs.open(heads, length)));
    for (const step of steps) {
      const tokens = pool.tokens(step);
      const attended = await pool.run(step);
      for (const [i, { row }] of step.entries()) {
        const expected = await (theirs[row] as Theirs).run(tokens[i] as Tokens);
        expect(worst(attended[i] as number[], expected)).toBeLessThan(1e-5);
      }
    }
    for (const [row, their] of theirs.entries()) {
      const length = lengths[row] as number;
      expect(worst(pool.row(row, pool.key), their.row(their.key, length))).toBeLessThan(1e-6);
      expect(worst(pool.row(row, pool.value), their.row(their.value, length))).toBeLessThan(1e-6);
    }
  });

  const shapes: [string, Heads][] = [
    ['heads of 10 values', { heads: 4, kvHeads: 2, headDim: 10 }],
    ['heads of 12 values', { heads: 4, kvHeads: 2, headDim: 12 }],
    ['heads of 2 values', { heads: 4, kvHeads: 2, headDim: 2 }],
    ['heads of which a quarter is rotated', { heads: 4, kvHeads: 2, headDim: 32, pairs: 4 }],
    [
      'heads of an odd size, normed and rotated in part',
      { heads: 3, kvHeads: 1, headDim: 7, pairs: 2, norms: { q: pattern(7, 5), k: pattern(7, 6) } },
    ],
    ['heads that are not rotated', { heads: 2, kvHeads: 2, headDim: 8, pairs: 0 }],
  ];
  it.each(shapes)('computes %s, which GroupQueryAttention does not', async (_, shape) => {
    const heads = { ...shape, window: 6 };
    const pool = new Pool(await open(heads), heads, 16, shuffled(16, [19, 45]));
    for (const step of [parts(13, 40), parts(5, 1), parts(1, 4)]) {
      const tokens = pool.tokens(step);
      const attended = await pool.run(step);
      for (const { row } of step) {
        const of = tokens[row] as Tokens;
        expect(worst(attended[row] as number[], pool.expected(row, of))).toBeLessThan(1e-5);
        const written = of.keys.slice(-shape.headDim);
        const last = pool.at(row, (pool.lengths[row] as number) - 1, shape.kvHeads - 1);
        const held = (pool.key.data as Float32Array).slice(last, last + shape.headDim);
        expect(worst([...held], [...written])).toBeLessThan(1e-6);
      }
    }
  });

  it.each<[CacheType, number, number]>([
    ['float16', 0, 2 ** -11],
    ['bfloat16', 0, 2 ** -8],
    ['float16', 1, 2 ** -11],
    ['bfloat16', 1, 2 ** -8],
  ])('keeps keys and values in %s, at precision %i', async (cache, precision, rounding) => {
    const shape = { heads: 4, kvHeads: 2, headDim: 24, precision };
    const steps = [parts(45, 1, 9), parts(1, 30, 1)];
    const tables = shuffled(32, totals(steps));
    const pool = new Pool(await open({ ...shape, cache }), { ...shape, cache }, 32, tables);
    const wide = new Pool(await open(shape), shape, 32, tables);
    for (const step of steps) {
      const tokens = pool.tokens(step);
      const attended = await pool.run(step);
      await wide.run(step);
      for (const { row } of step) {
        const error = worst(attended[row] as number[], pool.expected(row, tokens[row] as Tokens));
        expect(error).toBeLessThan(precision === 0 ? 1e-5 : 2e-2);
      }
    }
    const rounded = worst(pool.row(0, pool.key), wide.row(0, wide.key));
    expect(rounded).toBeGreaterThan(0);
    expect(rounded).toBeLessThanOrEqual(rounding);
    // Multiples of 1/32 between -1 and 1, which every type holds.
    expect(pool.row(1, pool.value)).toEqual(wide.row(1, wide.value));
  });

  it.each<[CacheType, number]>([
    ['float32', 0],
    ['bfloat16', 1],
  ])('gives a row the same bits alone, beside others and in other blocks: %s', async (cache, precision) => {
    const heads = { heads: 4, kvHeads: 1, headDim: 32, cache, precision };
    const session = await open(heads);
    const steps = [parts(70, 3, 9), parts(1, 40, 1), parts(5, 1, 1)];
    const tables = shuffled(16, totals(steps));
    const together = new Pool(session, heads, 16, tables);
    const alone = new Pool(session, heads, 64, shuffled(64, totals(steps)));
    for (const step of steps) {
      const attended = await together.run(step);
      for (const part of step) expect(await alone.run([part])).toEqual([attended[part.row]]);
    }
    for (const row of [0, 1, 2]) {
      expect(alone.row(row, alone.key)).toEqual(together.row(row, together.key));
      expect(alone.row(row, alone.value)).toEqual(together.row(row, together.value));
    }
  });

  it('lets rows share the blocks of a common past', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const session = await open(heads);
    const shared = new Pool(session, heads, 16, [
      [5, 2],
      [5, 0, 3],
    ]);
    await shared.run([{ row: 0, tokens: 16 }]);
    shared.lengths[1] = 16;
    const before = [...(shared.key.data as Float32Array)];
    const step = [
      { row: 0, tokens: 4 },
      { row: 1, tokens: 20 },
    ];
    const tokens = shared.tokens(step);
    const attended = await shared.run(step);
    for (const { row } of step) {
      expect(worst(attended[row] as number[], shared.expected(row, tokens[row] as Tokens))).toBeLessThan(
        1e-5,
      );
    }
    const block = (data: ArrayLike<number>, index: number) =>
      Array.from(data).slice(index * 128, (index + 1) * 128);
    expect(block(shared.key.data as Float32Array, 5)).toEqual(block(before, 5));
    expect(block(shared.key.data as Float32Array, 4)).toEqual(block(before, 4));
  });

  it('leaves the past alone when the present is other memory', async () => {
    const heads = { heads: 2, kvHeads: 2, headDim: 8 };
    const session = await open(heads);
    const pool = new Pool(session, heads, 16, [[1]]);
    await pool.run(parts(5));
    const before = [...(pool.key.data as Float32Array)];
    const fresh = await session.run(pool.feeds(parts(1)), {
      attended: null,
      present_key: null,
      present_value: null,
    });
    expect([...(pool.key.data as Float32Array)]).toEqual(before);
    const [inPlace] = await pool.run(parts(1));
    expect(elements(fresh.attended)).toEqual(inPlace);
    expect(fresh.present_key?.data).toEqual(pool.key.data);
    expect(fresh.present_value?.data).toEqual(pool.value.data);
  });

  it('rounds prompts to bfloat16 when asked', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 24 };
    const run = async (precision: number) => {
      const shape = { ...heads, precision };
      return (await new Pool(await open(shape), shape, 32, [[0]]).run(parts(25)))[0] as number[];
    };
    const error = worst(await run(1), await run(0));
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(2e-2);
  });

  it('runs a pass without tokens', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const pool = new Pool(await open(heads), heads, 16, [[0], [1]]);
    const feeds = {
      ...pool.feeds(parts(0, 0)),
      ...Object.fromEntries(
        [
          ['q', 16],
          ['k', 8],
          ['v', 8],
          ['cos', 4],
          ['sin', 4],
        ].map(([name, width]) => [name, new Tensor('float32', new Float32Array(0), [0, width as number])]),
      ),
    };
    expect(await pool.run(parts(0, 0), feeds)).toEqual([[], []]);
  });

  const int32 = (data: number[], dims = [data.length]) => new Tensor('int32', Int32Array.from(data), dims);
  it.each<[string, Record<string, Tensor>, RegExp]>([
    [
      'more tokens than the blocks hold',
      { past_lengths: int32([30, 2]) },
      /input 'past_lengths' is 30 for row 0, which has 3 new tokens; its 2 blocks of input 'block_tables' hold 32 positions/,
    ],
    ['a negative past', { past_lengths: int32([0, -1]) }, /input 'past_lengths' is -1 for row 1/],
    ['a past beyond all numbers', { past_lengths: int32([0, 2147483647]) }, /is 2147483647 for row 1/],
    [
      'rows that do not begin at the first token',
      { row_starts: int32([1, 3, 5]) },
      /input 'row_starts' goes from 1 to 5; expected 0 to 5, the number of tokens/,
    ],
    ['rows that do not end with the last token', { row_starts: int32([0, 3, 4]) }, /goes from 0 to 4/],
    [
      'rows out of order',
      { row_starts: int32([0, 7, 5]) },
      /input 'row_starts' falls from 7 to 5 after row 1/,
    ],
    [
      'a block behind the pool',
      { block_tables: int32([4, 1, 2, 3], [2, 2]) },
      /input 'block_tables' is 4 for block 0 of row 0, which has 3 positions; the pool has blocks 0 to 3/,
    ],
    [
      'a missing block',
      { past_lengths: int32([0, 20]), block_tables: int32([0, -1, 2, -1], [2, 2]) },
      /input 'block_tables' is -1 for block 1 of row 1, which has 22 positions/,
    ],
    [
      'two rows that write to one block',
      { block_tables: int32([2, -1, 2, -1], [2, 2]) },
      /input 'block_tables' has row 0 and row 1 write to block 2/,
    ],
    [
      'tables of other rows',
      { block_tables: int32([0, 1], [1, 2]) },
      /'block_tables' has shape \[1, 2\]; expected \[2, 2\]/,
    ],
    ['a start too few', { row_starts: int32([0, 5]) }, /'row_starts' has shape \[2\]; expected \[3\]/],
    [
      'angles of more values than a head has',
      { cos: matrix(5, pattern(25)), sin: matrix(5, pattern(25)) },
      /input 'cos' has 5 angles a token, which turn twice as many values; a head has 8/,
    ],
    [
      'sines of another shape',
      { sin: matrix(5, pattern(10)) },
      /'sin' has shape \[5, 2\]; expected \[5, 4\]/,
    ],
    [
      'keys of other tokens',
      { k: matrix(4, pattern(32)) },
      /input 'k' has shape \[4, 8\]; expected \[5, 8\]/,
    ],
    [
      'queries without rows',
      { q: new Tensor('float32', pattern(80), [5, 16]), k: matrix(5, pattern(45)) },
      /'k' has shape/,
    ],
  ])('refuses %s', async (_, wrong, message) => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const pool = new Pool(await open(heads), heads, 16, [
      [0, 1],
      [2, 3],
    ]);
    const before = [...(pool.key.data as Float32Array)];
    const step = parts(3, 2);
    await expect(pool.run(step, { ...pool.feeds(step), ...wrong })).rejects.toThrow(message);
    expect([...(pool.key.data as Float32Array)]).toEqual(before);
  });

  it.each([8, 24, 1])('refuses blocks of %i positions', async (blockSize) => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const pool = new Pool(await open(heads), heads, blockSize, [[0]]);
    await expect(pool.run(parts(1))).rejects.toThrow(
      new RegExp(`'past_key' has blocks of ${blockSize} positions; expected a power of two from 16 on`),
    );
  });

  it('names a cache of another shape and a window of no size', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const other = new Pool(await open(heads), { ...heads, kvHeads: 2 }, 16, [[0]]);
    const pool = new Pool(await open(heads), heads, 16, [[0]]);
    const feeds = { ...pool.feeds(parts(3)), past_key: other.key };
    await expect(
      pool.session.run(feeds, { attended: null, present_key: null, present_value: null }),
    ).rejects.toThrow(/input 'past_key' has shape \[1, 2, 16, 8\]; expected \[1, 1, 16, 8\]/);
    await expect(open({ ...heads, window: 0 })).rejects.toThrow(/'window' is 0; expected at least 1/);
  });

  it('refuses norms of another size', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8, norms: { q: pattern(8), k: pattern(6) } };
    const pool = new Pool(await open(heads), heads, 16, [[0]]);
    const feeds = new Pool(pool.session, { heads: 2, kvHeads: 1, headDim: 8 }, 16, [[0]]).feeds(parts(3));
    await expect(pool.run(parts(3), feeds)).rejects.toThrow(
      /attribute 'k_norm': tensor 'weight.1' has shape \[6\], but a head has 8 values/,
    );
  });
});
