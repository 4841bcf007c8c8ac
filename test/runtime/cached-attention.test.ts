import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { Session } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { encodeModel, type ModelNode, type ModelValue } from './onnx-model.ts';
import { attend, normRotate } from './reference.ts';
import { pattern, temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
  window?: number;
  precision?: number;
  /** Weights of the norms over each head. */
  norms?: { q: Float32Array; k: Float32Array };
}

const SCALE = 1.5;
const EPSILON = 1e-3;

const value = (name: string, type: ModelValue['type'], rank: number): ModelValue => ({
  name,
  type,
  shape: Array.from({ length: rank }, (_, d) => `${name}_${d}`),
});

const FRESH = ['q', 'k', 'v'].map((name) => value(name, 'float32', 3));
const ANGLES = ['cos', 'sin'].map((name) => value(name, 'float32', 3));
const CACHE = [
  ...['past_key', 'past_value'].map((name) => value(name, 'float32', 4)),
  value('last_positions', 'int32', 1),
  value('total_length', 'int32', 0),
];
const OUTPUTS = [
  value('attended', 'float32', 3),
  ...['present_key', 'present_value'].map((name) => value(name, 'float32', 4)),
];

/** An op under test, and whether it norms and rotates. */
interface Op {
  inputs: ModelValue[];
  node: Partial<ModelNode> & { op: string };
  norms?: Heads['norms'];
}

const ours = ({ heads, kvHeads, window, precision, norms }: Heads): Op => ({
  inputs: [...FRESH, ...ANGLES, ...CACHE],
  ...(norms && { norms }),
  node: {
    op: 'CachedAttention',
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: { float: SCALE },
      ...(window !== undefined && { window }),
      ...(precision !== undefined && { precision }),
      ...(norms && { q_norm: 0, k_norm: 1, epsilon: { float: EPSILON } }),
    },
  },
});

const theirs = ({ heads, kvHeads, window = -1 }: Heads): Op => ({
  inputs: [...FRESH, ...CACHE],
  node: {
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: { float: SCALE },
      local_window_size: window,
    },
  },
});

let files = 0;
async function open({ inputs, node, norms }: Op): Promise<Session> {
  const tensors = norms ? [norms.q, norms.k] : [pattern(1)];
  const weights = openWeightStore(
    writeTensors(
      join(folder, `${files++}.bin`),
      tensors.map((values, i) => ({ name: `weight.${i}`, shape: [values.length], values })),
    ),
  );
  const names = (values: ModelValue[]) => values.map(({ name }) => name);
  const whole = { name: 'node', inputs: names(inputs), outputs: names(OUTPUTS), ...node };
  const session = await openSession(encodeModel({ inputs, outputs: OUTPUTS, nodes: [whole] }), {
    store: weights,
    threads: 2,
  });
  cleanups.push(async () => {
    await session.dispose();
    weights.dispose();
  });
  return session;
}

/** A cache that steps are written into, over one session. */
class Cached {
  readonly key: Tensor;
  readonly value: Tensor;
  readonly #session: Session;
  readonly #heads: Heads;

  constructor(session: Session, heads: Heads, batch: number, capacity: number) {
    this.#session = session;
    this.#heads = heads;
    const shape = [batch, heads.kvHeads, capacity, heads.headDim];
    const size = shape.reduce((a, b) => a * b, 1);
    this.key = new Tensor('float32', new Float32Array(size), shape);
    this.value = new Tensor('float32', new Float32Array(size), shape);
  }

  /** The tokens as projected, for ours, and as `theirs` needs them. */
  feeds(step: Step): Record<string, Tensor> {
    const { heads, kvHeads, headDim, norms } = this.#heads;
    const batch = step.lastPositions.length;
    const tokens = batch * step.tokens;
    const fresh = (values: Float32Array) =>
      new Tensor('float32', values, [batch, step.tokens, values.length / tokens]);
    const q = pattern(tokens * heads * headDim, step.seed + 1);
    const k = pattern(tokens * kvHeads * headDim, step.seed + 2);
    const angles = pattern(tokens * Math.floor(headDim / 2), step.seed + 4);
    const rotation = { headDim, cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
    const rotates = this.#session.inputNames.includes('cos');
    const ready = (x: Float32Array, count: number, norm: Float32Array | undefined) =>
      rotates ? x : normRotate(x, count, rotation, norm, EPSILON);
    return {
      q: fresh(ready(q, heads, norms?.q)),
      k: fresh(ready(k, kvHeads, norms?.k)),
      v: fresh(pattern(tokens * kvHeads * headDim, step.seed + 3)),
      ...(rotates ? { cos: fresh(rotation.cos), sin: fresh(rotation.sin) } : {}),
      past_key: this.key,
      past_value: this.value,
      last_positions: new Tensor('int32', Int32Array.from(step.lastPositions), [batch]),
      total_length: new Tensor('int32', Int32Array.of(step.totalLength), []),
    };
  }

  /** The queries as they meet the keys. */
  queries(step: Step): Float32Array {
    const { heads, headDim, norms } = this.#heads;
    const { q, cos, sin } = this.feeds(step) as Record<'q' | 'cos' | 'sin', Tensor>;
    const rotation = { headDim, cos: cos.data as Float32Array, sin: sin.data as Float32Array };
    return normRotate(q.data as Float32Array, heads, rotation, norms?.q, EPSILON);
  }

  /** Writes the step into the cache's own memory. */
  async run(step: Step): Promise<number[]> {
    const fetches = { attended: null, present_key: this.key, present_value: this.value };
    const { attended } = await this.#session.run(this.feeds(step), fetches);
    return elements(attended);
  }
}

interface Step {
  tokens: number;
  lastPositions: number[];
  totalLength: number;
  seed: number;
}

const prefill = (lengths: number[], seed: number): Step => ({
  tokens: Math.max(...lengths),
  lastPositions: lengths.map((length) => length - 1),
  totalLength: Math.max(...lengths),
  seed,
});

function decode(lengths: number[], seed: number): Step {
  return { tokens: 1, lastPositions: lengths, totalLength: Math.max(...lengths) + 1, seed };
}

const chunk = (past: number, tokens: number, seed: number): Step => ({
  tokens,
  lastPositions: [past + tokens - 1],
  totalLength: past + tokens,
  seed,
});

function elements(tensor: Tensor | undefined): number[] {
  if (tensor === undefined) throw new Error('the run returned no such tensor');
  return [...(tensor.data as Float32Array)];
}

/** What matters of the output: rows padded on the right end earlier. */
function realValues(attended: readonly number[], step: Step, heads: Heads): number[] {
  const width = heads.heads * heads.headDim;
  return step.lastPositions.flatMap((last, row) => {
    const start = step.tokens === 1 ? last : step.totalLength - step.tokens;
    const from = row * step.tokens * width;
    return attended.slice(from, from + (last + 1 - start) * width);
  });
}

function worst(actual: readonly number[], expected: readonly number[]): number {
  expect(actual.length).toBe(expected.length);
  expect(actual.every(Number.isFinite)).toBe(true);
  return Math.max(0, ...expected.map((e, i) => Math.abs(e - (actual[i] as number))));
}

const cases: [string, Heads, number, Step[]][] = [
  [
    'a prompt, chunks with a past, then single tokens',
    { heads: 4, kvHeads: 2, headDim: 16 },
    90,
    [prefill([37], 1), chunk(37, 9, 2), chunk(46, 2, 3), decode([48], 4), decode([49], 5)],
  ],
  [
    'a batch of prompts of different lengths',
    { heads: 6, kvHeads: 2, headDim: 8 },
    40,
    [prefill([19, 5, 12], 6), decode([19, 5, 12], 7), decode([20, 6, 13], 8)],
  ],
  [
    'a sliding window',
    { heads: 2, kvHeads: 1, headDim: 24, window: 7 },
    64,
    [prefill([30], 9), chunk(30, 11, 10), decode([41], 11)],
  ],
  [
    'a sliding window over a batch',
    { heads: 4, kvHeads: 4, headDim: 8, window: 5 },
    32,
    [prefill([16, 3], 12), decode([16, 3], 13)],
  ],
  ['one token prompts', { heads: 2, kvHeads: 2, headDim: 8 }, 4, [prefill([1, 1], 14), decode([1, 1], 15)]],
  [
    'norms over heads',
    { heads: 4, kvHeads: 2, headDim: 40, norms: { q: pattern(40, 50), k: pattern(40, 51) } },
    48,
    [prefill([21], 18), chunk(21, 6, 19), decode([27], 20)],
  ],
  [
    'a long prompt with norms, shared by threads',
    { heads: 4, kvHeads: 1, headDim: 64, norms: { q: pattern(64, 52), k: pattern(64, 53) } },
    300,
    [prefill([290], 21), decode([290], 22)],
  ],
  [
    'more keys than a block',
    { heads: 2, kvHeads: 1, headDim: 8 },
    1200,
    [prefill([1100], 16), decode([1100], 17)],
  ],
];

describe('CachedAttention', () => {
  it.each(cases)("agrees with ONNX Runtime's GroupQueryAttention: %s", async (_, heads, capacity, steps) => {
    const batch = steps[0]?.lastPositions.length as number;
    const our = new Cached(await open(ours(heads)), heads, batch, capacity);
    const their = new Cached(await open(theirs(heads)), heads, batch, capacity);
    for (const step of steps) {
      const actual = realValues(await our.run(step), step, heads);
      expect(worst(actual, realValues(await their.run(step), step, heads))).toBeLessThan(1e-5);
    }
    for (const part of ['key', 'value'] as const) {
      const real = (cached: Cached) => realCache(cached[part], steps.at(-1) as Step);
      expect(worst(real(our), real(their))).toBeLessThan(1e-6);
    }
  });

  /** The positions in use of a cache. */
  function realCache(cache: Tensor, { lastPositions }: Step): number[] {
    const [, kvHeads, capacity, headDim] = cache.dims as [number, number, number, number];
    const values = cache.data as Float32Array;
    return lastPositions.flatMap((last, row) =>
      Array.from({ length: kvHeads }, (_, head) => (row * kvHeads + head) * capacity * headDim).flatMap(
        (from) => [...values.subarray(from, from + (last + 1) * headDim)],
      ),
    );
  }

  it.each([10, 12, 2])('computes heads of %i values, which GroupQueryAttention refuses', async (headDim) => {
    const heads = { heads: 4, kvHeads: 2, headDim, window: 6 };
    const cached = new Cached(await open(ours(heads)), heads, 1, 30);
    for (const step of [prefill([13], 1), chunk(13, 5, 2), decode([18], 3)]) {
      const attended = await cached.run(step);
      const shape = {
        ...heads,
        rows: [{ keys: step.totalLength, past: step.totalLength - step.tokens }],
        tokens: step.tokens,
        scale: SCALE,
        causal: true,
      };
      const q = cached.queries(step);
      const [key, value] = [cached.key, cached.value].map((part) => part.data as Float32Array);
      const at = (_: number, position: number, head: number) => (head * 30 + position) * headDim;
      const expected = attend(shape, q, key as Float32Array, value as Float32Array, at);
      expect(worst(attended, expected)).toBeLessThan(1e-5);
    }
  });

  it('starts several rows at one common past', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const session = await open(ours(heads));
    const together = new Cached(session, heads, 2, 20);
    const first = prefill([6, 6], 1);
    const second = { tokens: 4, lastPositions: [9, 8], totalLength: 10, seed: 2 };
    await together.run(first);
    const attended = await together.run(second);
    const q = together.queries(second);
    const shape = {
      ...heads,
      rows: [
        { keys: 10, past: 6 },
        { keys: 10, past: 6 },
      ],
      tokens: 4,
      scale: SCALE,
      causal: true,
    };
    const [key, value] = [together.key.data, together.value.data] as Float32Array[];
    const at = (row: number, position: number) => (row * 20 + position) * 8;
    const expected = attend(shape, q, key as Float32Array, value as Float32Array, at);
    expect(worst(attended, expected)).toBeLessThan(1e-5);
  });

  it('leaves the past alone when the present is other memory', async () => {
    const heads = { heads: 2, kvHeads: 2, headDim: 8 };
    const session = await open(ours(heads));
    const cached = new Cached(session, heads, 1, 12);
    await cached.run(prefill([5], 1));
    const before = [...(cached.key.data as Float32Array)];
    const step = decode([5], 2);
    const fresh = await session.run(cached.feeds(step), {
      attended: null,
      present_key: null,
      present_value: null,
    });
    expect([...(cached.key.data as Float32Array)]).toEqual(before);
    const inPlace = await cached.run(step);
    expect(elements(fresh.attended)).toEqual(inPlace);
    expect(fresh.present_key?.data).toEqual(cached.key.data);
    expect(fresh.present_value?.data).toEqual(cached.value.data);
  });

  it('rounds prompts to bfloat16 when asked', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 24 };
    const run = async (precision: number) =>
      new Cached(await open(ours({ ...heads, precision })), heads, 1, 30).run(prefill([25], 1));
    const error = worst(await run(1), await run(0));
    expect(error).toBeGreaterThan(1e-5);
    expect(error).toBeLessThan(2e-2);
  });

  it.each<[string, Step, RegExp]>([
    [
      'too many tokens',
      chunk(18, 3, 1),
      /row 0 has 3 new tokens from position 18 on; the cache holds positions 0 to 19/,
    ],
    ['a position behind the end', decode([20], 1), /row 0 has 1 new tokens from position 20 on/],
    ['a negative position', decode([-1], 1), /row 0 has 1 new tokens from position -1 on/],
    ['a total below the new tokens', { ...prefill([5], 1), totalLength: 4 }, /from position -1 on/],
  ])('refuses %s', async (_, step, message) => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const cached = new Cached(await open(ours(heads)), heads, 1, 20);
    await expect(cached.run(step)).rejects.toThrow(message);
  });

  it('names a cache of another shape and a window of no size', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const cached = new Cached(await open(ours(heads)), { ...heads, kvHeads: 2 }, 1, 20);
    const feeds = { ...cached.feeds(prefill([3], 1)), k: narrow(3), v: narrow(3) };
    await expect(
      (await open(ours(heads))).run(feeds, { attended: null, present_key: null, present_value: null }),
    ).rejects.toThrow(/input 'past_key' has shape \[1, 2, 20, 8\]; expected \[1, 1, 20, 8\]/);
    await expect(open(ours({ ...heads, window: 0 }))).rejects.toThrow(/'window' is 0; expected at least 1/);
  });

  it('refuses heads that cannot be rotated and norms of another size', async () => {
    const odd = { heads: 2, kvHeads: 1, headDim: 7 };
    await expect(new Cached(await open(ours(odd)), odd, 1, 9).run(prefill([3], 1))).rejects.toThrow(
      /a head has 7 values; the rotary embedding needs an even number/,
    );
    const heads = { heads: 2, kvHeads: 1, headDim: 8, norms: { q: pattern(8), k: pattern(6) } };
    await expect(new Cached(await open(ours(heads)), heads, 1, 9).run(prefill([3], 1))).rejects.toThrow(
      /attribute 'k_norm': tensor 'weight.1' has shape \[6\], but a head has 8 values/,
    );
  });

  const narrow = (tokens: number) => new Tensor('float32', pattern(tokens * 8), [1, tokens, 8]);
});
