import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AbortError, EngineError, InputError } from '../../src/errors.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { Session, SessionOptions, WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { LONG_TOKENS, LONG_WIDTH, longGraph } from './long-graph.ts';
import { encodeModel, type ModelDescription } from './onnx-model.ts';
import { pattern, temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
const values = { w: pattern(6, 1), bound: pattern(3, 2), bound_bf16: pattern(3, 3) };
let store: WeightStore;
const sessions: Session[] = [];

beforeAll(() => {
  store = openStore();
});
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.dispose()));
});
afterAll(() => {
  store.dispose();
  remove();
});

function openStore(): WeightStore {
  return openWeightStore(
    writeTensors(join(folder, `weights-${Math.random()}.bin`), [
      { name: 'w', shape: [2, 3], values: values.w },
      { name: 'bound', shape: [3], values: values.bound },
      { name: 'bound_bf16', shape: [3], values: values.bound_bf16, dtype: 'BF16' },
      { name: 'big', shape: [LONG_WIDTH, LONG_WIDTH], values: pattern(LONG_WIDTH ** 2) },
    ]),
  );
}

async function open(
  model: ModelDescription | Uint8Array,
  options: Partial<SessionOptions> = {},
): Promise<Session> {
  const bytes = model instanceof Uint8Array ? model : encodeModel(model);
  const session = await openSession(bytes, { store, threads: 2, ...options });
  sessions.push(session);
  return session;
}

/** y = x · wᵀ for x [n, 3]. */
const linear = (weights: WeightStore = store): ModelDescription => ({
  inputs: [{ name: 'x', type: 'float32', shape: ['n', 3] }],
  outputs: [{ name: 'y', type: 'float32', shape: ['n', 2] }],
  nodes: [
    {
      op: 'Linear',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { weights: [weights.handle('w')] },
    },
  ],
});

const unit = () => new Tensor('float32', Float32Array.of(1, 0, 0), [1, 3]);
const firstColumn = [values.w[0], values.w[3]];

function elements<T extends number | bigint = number>(tensor: Tensor | undefined): T[] {
  if (tensor === undefined) throw new Error('the run returned no such tensor');
  return [...(tensor.data as unknown as Iterable<T>)];
}

const openLong = () => open(longGraph(store.handle('big')));
const longInput = () =>
  new Tensor('float32', new Float32Array(LONG_TOKENS * LONG_WIDTH), [LONG_TOKENS, LONG_WIDTH]);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('openSession', () => {
  it('names inputs and outputs', async () => {
    const session = await open(linear());
    expect(session.inputNames).toEqual(['x']);
    expect(session.outputNames).toEqual(['y']);
  });

  it('copies the model, which may change afterwards', async () => {
    const bytes = encodeModel(linear());
    const opening = open(bytes);
    bytes.fill(0);
    const { y } = await (await opening).run({ x: unit() }, { y: null });
    expect(elements(y)).toEqual(firstColumn);
  });

  it('refuses bytes that are not a model', async () => {
    await expect(open(Uint8Array.of(1, 2, 3))).rejects.toThrow(EngineError);
  });

  it('names an op nobody defined', async () => {
    const model = linear();
    await expect(
      open({ ...model, nodes: [{ op: 'Nonsense', inputs: ['x'], outputs: ['y'] }] }),
    ).rejects.toThrow(/Nonsense/);
  });

  it.each([0, 1.5, Number.NaN, 5000])('refuses %d threads', async (threads) => {
    await expect(open(linear(), { threads })).rejects.toThrow(InputError);
  });

  it('refuses a disposed store', async () => {
    const other = openStore();
    const model = linear(other);
    other.dispose();
    await expect(open(model, { store: other })).rejects.toThrow(/weight store is disposed/);
  });

  it('refuses an output that JavaScript cannot hold', async () => {
    const model: ModelDescription = {
      inputs: [{ name: 'x', type: 'float32', shape: [3] }],
      outputs: [{ name: 'y', type: 'bfloat16', shape: [3] }],
      nodes: [{ op: 'Cast', domain: '', inputs: ['x'], outputs: ['y'], attributes: { to: 16 } }],
    };
    const session = await open(model);
    const feeds = { x: new Tensor('float32', Float32Array.of(1, 2, 3), [3]) };
    await expect(session.run(feeds, { y: null })).rejects.toThrow(
      /output 'y' has data type 16, which JavaScript tensors cannot hold/,
    );
    await session.dispose();
  });

  it('runs a graph that reads no weight over a store that has none', async () => {
    const empty = openWeightStore([]);
    const model: ModelDescription = {
      inputs: [{ name: 'x', type: 'float32', shape: ['n', 3] }],
      outputs: [{ name: 'y', type: 'float32', shape: ['n', 3] }],
      nodes: [{ op: 'Relu', domain: '', inputs: ['x'], outputs: ['y'] }],
    };
    const session = await open(model, { store: empty });
    empty.dispose();
    const { y } = await session.run(
      { x: new Tensor('float32', Float32Array.of(-1, 2, -3), [1, 3]) },
      { y: null },
    );
    expect(elements(y)).toEqual([0, 2, 0]);
  });
});

describe('bound inputs', () => {
  const add: ModelDescription = {
    inputs: [
      { name: 'x', type: 'float32', shape: [3] },
      { name: 'b', type: 'float32', shape: [3] },
      { name: 'half', type: 'bfloat16', shape: [3] },
    ],
    outputs: [{ name: 'y', type: 'float32', shape: [3] }],
    nodes: [
      { op: 'Cast', domain: '', inputs: ['half'], outputs: ['wide'], attributes: { to: 1 } },
      { op: 'Sum', domain: '', inputs: ['x', 'b', 'wide'], outputs: ['y'] },
    ],
  };

  it('need no feed, and read stored fp32 and bf16 tensors wherever they lie', async () => {
    const session = await open(add, { boundInputs: { b: 'bound', half: 'bound_bf16' } });
    expect(session.inputNames).toEqual(['x']);
    const { y } = await session.run({ x: new Tensor('float32', Float32Array.of(1, 2, 3), [3]) }, { y: null });
    expect(elements(y)).toEqual(
      [1, 2, 3].map((x, i) => x + (values.bound[i] as number) + (values.bound_bf16[i] as number)),
    );
  });

  it('name graph input and tensor when the two do not fit', async () => {
    await expect(open(add, { boundInputs: { b: 'w', half: 'bound_bf16' } })).rejects.toThrow(
      /bound input 'b' is float32 \[3\] in the graph, but tensor 'w' is float32 \[2, 3\]/,
    );
    await expect(open(add, { boundInputs: { b: 'bound_bf16' } })).rejects.toThrow(
      /tensor 'bound_bf16' is bfloat16/,
    );
  });

  it('name an input the graph does not have, and a tensor the store does not have', async () => {
    await expect(open(add, { boundInputs: { c: 'bound' } })).rejects.toThrow(
      /'c' is not an input of the graph/,
    );
    await expect(open(add, { boundInputs: { b: 'bond' } })).rejects.toThrow(/"bond".*mean "bound"/);
  });
});

describe('run', () => {
  it('allocates outputs, small and large', async () => {
    const session = await open(linear());
    const n = 50_000;
    const x = new Tensor('float32', pattern(n * 3, 9), [n, 3]);
    const { y } = await session.run({ x }, { y: null });
    expect(y?.dims).toEqual([n, 2]);
    const row = elements(x).slice(-3);
    const expected = row.reduce((sum, v, k) => sum + v * (values.w[3 + k] as number), 0);
    expect(elements(y).at(-1)).toBeCloseTo(expected, 5);
  });

  it('returns outputs that outlive the session', async () => {
    const session = await open(linear());
    const n = 50_000;
    const { y } = await session.run(
      { x: new Tensor('float32', new Float32Array(n * 3).fill(1), [n, 3]) },
      { y: null },
    );
    await session.dispose();
    const sum = (values.w[0] as number) + (values.w[1] as number) + (values.w[2] as number);
    expect(elements(y).at(-2)).toBeCloseTo(sum, 5);
  });

  it('writes into a tensor that is given', async () => {
    const session = await open(linear());
    const target = new Tensor('float32', new Float32Array(2), [1, 2]);
    const { y } = await session.run({ x: unit() }, { y: target });
    expect(y).toBe(target);
    expect(elements(target)).toEqual(firstColumn);
  });

  it('writes into part of a larger buffer', async () => {
    const session = await open(linear());
    const memory = new Float32Array(6);
    const target = new Tensor('float32', memory.subarray(2, 4), [1, 2]);
    await session.run({ x: unit() }, { y: target });
    expect([...memory]).toEqual([0, 0, ...firstColumn, 0, 0]);
  });

  it('takes and returns float16 tensors', async () => {
    const session = await open({
      inputs: [{ name: 'x', type: 'float16', shape: [3] }],
      outputs: [
        { name: 'wide', type: 'float32', shape: [3] },
        { name: 'half', type: 'float16', shape: [3] },
      ],
      nodes: [
        { op: 'Cast', domain: '', inputs: ['x'], outputs: ['wide'], attributes: { to: 1 } },
        { op: 'Neg', domain: '', inputs: ['x'], outputs: ['half'] },
      ],
    });
    const bits = Uint16Array.of(0x3c00, 0xc000, 0x3800); // 1, -2, 0.5
    const { wide, half } = await session.run(
      { x: new Tensor('float16', bits, [3]) },
      { wide: null, half: null },
    );
    expect(elements(wide)).toEqual([1, -2, 0.5]);
    // Newer versions of Node have Float16Array, so look at the bits.
    const { buffer, byteOffset } = (half as Tensor).data as Uint16Array;
    expect([...new Uint16Array(buffer, byteOffset, 3)]).toEqual([0xbc00, 0x4000, 0xb800]);
  });

  it('sees what was written to a fed tensor since the last run', async () => {
    const session = await open(linear());
    const x = unit();
    await session.run({ x }, { y: null });
    (x.data as Float32Array).set([0, 1, 0]);
    const { y } = await session.run({ x }, { y: null });
    expect(elements(y)).toEqual([values.w[1], values.w[4]]);
  });

  it('keeps overlapping runs apart', async () => {
    const session = await open(linear());
    const runs = Array.from({ length: 100 }, async (_, i) => {
      const { y } = await session.run(
        { x: new Tensor('float32', Float32Array.of(i, 0, 0), [1, 3]) },
        { y: null },
      );
      return elements(y);
    });
    expect(await Promise.all(runs)).toEqual(
      runs.map((_, i) => firstColumn.map((w) => (w as number) * i + 0)),
    );
  });

  it('runs sessions over two stores at once', async () => {
    const other = openStore();
    const [one, two] = [await open(linear()), await open(linear(other), { store: other })];
    const results = await Promise.all([one, two].map((s) => s.run({ x: unit() }, { y: null })));
    expect(results.map(({ y }) => elements(y))).toEqual([firstColumn, firstColumn]);
    other.dispose();
  });

  it('leaves the event loop free', async () => {
    const session = await openLong();
    const controller = new AbortController();
    const run = session.run({ x: longInput() }, { y: null }, { signal: controller.signal });
    for (let ticks = 0; ticks < 10; ticks++) await pause(5);
    controller.abort();
    // Had it held the event loop, it would have ended before the ticks did.
    await expect(run).rejects.toThrow(AbortError);
  });

  it('reads weights from a store whose owner has disposed of it', async () => {
    const other = openStore();
    const session = await open(linear(other), { store: other });
    other.dispose();
    const { y } = await session.run({ x: unit() }, { y: null });
    expect(elements(y)).toEqual(firstColumn);
  });
});

describe('attention over a cache that is fed and fetched', () => {
  const [heads, headSize, capacity] = [2, 8, 16];
  const width = heads * headSize;
  const cacheShape = [1, heads, capacity, headSize];
  const model: ModelDescription = {
    inputs: [
      ...['q', 'k', 'v'].map((name) => ({ name, type: 'float32' as const, shape: [1, 1, width] })),
      ...['past_k', 'past_v'].map((name) => ({ name, type: 'float32' as const, shape: cacheShape })),
      { name: 'seqlens', type: 'int32', shape: [1] },
      { name: 'total', type: 'int32', shape: [] },
    ],
    outputs: [
      { name: 'y', type: 'float32', shape: [1, 1, width] },
      ...['present_k', 'present_v'].map((name) => ({ name, type: 'float32' as const, shape: cacheShape })),
    ],
    nodes: [
      {
        op: 'GroupQueryAttention',
        domain: 'com.microsoft',
        inputs: ['q', 'k', 'v', 'past_k', 'past_v', 'seqlens', 'total'],
        outputs: ['y', 'present_k', 'present_v'],
        attributes: { num_heads: heads, kv_num_heads: heads },
      },
    ],
  };
  const emptyCache = () => new Tensor('float32', new Float32Array(heads * capacity * headSize), cacheShape);

  function step(position: number, past: { k: Tensor; v: Tensor }) {
    const token = (seed: number) =>
      new Tensor('float32', pattern(width, 10 * position + seed), [1, 1, width]);
    return {
      ...{ q: token(1), k: token(2), v: token(3), past_k: past.k, past_v: past.v },
      seqlens: new Tensor('int32', Int32Array.of(position), [1]),
      total: new Tensor('int32', Int32Array.of(position + 1), []),
    };
  }

  it('equals fresh caches, and happens in the fed memory', async () => {
    const session = await open(model);
    const cache = { k: emptyCache(), v: emptyCache() };
    let fresh: { k: Tensor; v: Tensor } = { k: emptyCache(), v: emptyCache() };
    for (let position = 0; position < 4; position++) {
      const inPlace = await session.run(step(position, cache), {
        y: null,
        present_k: cache.k,
        present_v: cache.v,
      });
      const copied = await session.run(step(position, fresh), { y: null, present_k: null, present_v: null });
      fresh = { k: copied.present_k as Tensor, v: copied.present_v as Tensor };
      expect(elements(inPlace.y)).toEqual(elements(copied.y));
      expect(inPlace.present_k).toBe(cache.k);
    }
    expect(elements(cache.k)).toEqual(elements(fresh.k));
    expect(elements(cache.k).slice(0, headSize)).toEqual([...pattern(width, 2)].slice(0, headSize));
  });
});

describe('abort', () => {
  it('ends a run early, with the reason as cause', async () => {
    const session = await openLong();
    const controller = new AbortController();
    const run = session.run({ x: longInput() }, { y: null }, { signal: controller.signal });
    await pause(50);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(run).rejects.toThrow(AbortError);
    await expect(run).rejects.toMatchObject({ cause: reason });
  });

  it('does not start a run whose signal is already aborted', async () => {
    const session = await open(linear());
    const target = new Tensor('float32', new Float32Array(2), [1, 2]);
    const run = session.run({ x: unit() }, { y: target }, { signal: AbortSignal.abort() });
    await expect(run).rejects.toThrow(AbortError);
    expect(elements(target)).toEqual([0, 0]);
  });

  it('ends only the run it belongs to', async () => {
    const [long, short] = [await openLong(), await open(linear())];
    const controllers = [new AbortController(), new AbortController()];
    const runs = controllers.map(({ signal }) => long.run({ x: longInput() }, { y: null }, { signal }));
    const other = short.run({ x: unit() }, { y: null }, { signal: new AbortController().signal });
    controllers[0]?.abort();
    await expect(runs[0]).rejects.toThrow(AbortError);
    expect(elements((await other).y)).toEqual(firstColumn);
    expect(await Promise.race([runs[1], pause(20).then(() => 'still running')])).toBe('still running');
    controllers[1]?.abort();
    await expect(runs[1]).rejects.toThrow(AbortError);
  });

  it('after the end changes nothing', async () => {
    const session = await open(linear());
    const controller = new AbortController();
    const { y } = await session.run({ x: unit() }, { y: null }, { signal: controller.signal });
    controller.abort();
    expect(elements(y)).toEqual(firstColumn);
    expect(elements((await session.run({ x: unit() }, { y: null })).y)).toEqual(firstColumn);
  });
});

describe('dispose', () => {
  it('waits for runs in progress', async () => {
    const session = await open(longGraph(store.handle('big'), 5));
    let finished = false;
    const run = session.run({ x: longInput() }, { y: null }).then(() => {
      finished = true;
    });
    await session.dispose();
    expect(finished).toBe(true);
    await run;
  });

  it('may be called twice, and ends every further use', async () => {
    const session = await open(linear());
    await Promise.all([session.dispose(), session.dispose()]);
    await session.dispose();
    await expect(session.run({ x: unit() }, { y: null })).rejects.toThrow(/the session is disposed/);
    expect(session.inputNames).toEqual(['x']);
  });
});

describe('run refuses', () => {
  const cases: [string, Record<string, unknown>, Record<string, unknown>, RegExp][] = [
    ['a missing feed', {}, { y: null }, /no feed for input "x"/],
    ['an unknown input', { x: unit(), xx: unit() }, { y: null }, /no input "xx"\. Did you mean "x"\?/],
    ['an unknown output', { x: unit() }, { z: null }, /no output "z"/],
    ['a feed that is no tensor', { x: [1, 0, 0] }, { y: null }, /input 'x' is \[1,0,0\]; expected a Tensor/],
    [
      'a feed of another type',
      { x: new Tensor('int32', new Int32Array(3), [1, 3]) },
      { y: null },
      /input 'x' is float32 in the graph, but the tensor given is int32/,
    ],
    ['a string tensor', { x: new Tensor('string', ['a', 'b', 'c'], [1, 3]) }, { y: null }, /a string tensor/],
    ['a feed of another rank', { x: new Tensor('float32', new Float32Array(3), [3]) }, { y: null }, /x/],
    [
      'a feed of another shape',
      { x: new Tensor('float32', new Float32Array(4), [1, 4]) },
      { y: null },
      /x.*Got: 4/s,
    ],
    [
      'a target of another type',
      { x: unit() },
      { y: new Tensor('int32', new Int32Array(2), [1, 2]) },
      /output 'y' is float32 in the graph, but the tensor given is int32/,
    ],
    [
      'a target of another shape',
      { x: unit() },
      { y: new Tensor('float32', new Float32Array(4), [2, 2]) },
      /shape/i,
    ],
  ];

  it.each(cases)('%s, and still runs afterwards', async (_, feeds, fetches, message) => {
    const session = await open(linear());
    const run = session.run(feeds as never, fetches as never);
    await expect(run).rejects.toThrow(EngineError);
    await expect(run).rejects.toThrow(message);
    expect(elements((await session.run({ x: unit() }, { y: null })).y)).toEqual(firstColumn);
  });

  it('a tensor that was disposed or whose buffer was transferred, also after it had been used', async () => {
    const session = await open(linear());
    const [disposed, transferred] = [unit(), unit()];
    await session.run({ x: disposed }, { y: null });
    await session.run({ x: transferred }, { y: null });
    disposed.dispose();
    structuredClone(null, { transfer: [(transferred.data as Float32Array).buffer as ArrayBuffer] });
    await expect(session.run({ x: disposed }, { y: null })).rejects.toThrow(
      /input 'x' has no data in memory/,
    );
    await expect(session.run({ x: transferred }, { y: null })).rejects.toThrow(
      /input 'x' has lost its memory/,
    );
  });

  it('memory that is shared between threads', async () => {
    const session = await open(linear());
    const x = new Tensor('float32', new Float32Array(new SharedArrayBuffer(12)), [1, 3]);
    await expect(session.run({ x }, { y: null })).rejects.toThrow(/SharedArrayBuffer/);
  });
});
