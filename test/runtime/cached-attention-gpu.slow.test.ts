import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../src/runtime/device.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { type CacheType, Graphs, type Heads, Pool, parts, shuffled, totals, worst } from './paged-cache.ts';
import { pattern } from './stored-tensors.ts';

const graphs = new Graphs();
afterEach(() => graphs.closeSessions());
afterAll(() => graphs.close());

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('CachedAttention on an emulated GPU', () => {
  useEmulatedGpu();
  let device: Device;
  beforeAll(async () => {
    device = await Device.open();
  });
  afterAll(() => device?.dispose());

  it.each<[CacheType, number]>([
    ['float32', 1e-5],
    ['float16', 5e-3],
    ['bfloat16', 4e-2],
  ])('agrees with the CPU where caches are of %s', async (cache, tolerance) => {
    const norms = { q: pattern(24, 50), k: pattern(24, 51) };
    const heads: Heads = { heads: 4, kvHeads: 2, headDim: 24, pairs: 6, window: 50, norms, cache };
    const steps = [parts(45, 1, 9), parts(1, 30, 1), parts(1, 1, 1)];
    const tables = shuffled(16, totals(steps));
    const here = new Pool(await graphs.open(heads), heads, 16, tables);
    const there = new Pool(await graphs.open(heads, { device, dtype: cache }), heads, 16, tables);
    for (const step of steps) {
      const expected = await here.run(step);
      const attended = await there.run(step);
      for (const { row } of step) {
        expect(worst(attended[row] as number[], expected[row] as number[])).toBeLessThan(tolerance);
      }
    }
    for (const row of [0, 1, 2]) {
      expect(worst(there.row(row, there.key), here.row(row, here.key))).toBeLessThan(tolerance);
      expect(there.row(row, there.value)).toEqual(here.row(row, here.value));
    }
  });

  it('gives zeros and writes nothing where a row does not fit or has no blocks', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const pool = new Pool(await graphs.open(heads, { device, dtype: 'float32' }), heads, 16, [[0], [1]]);
    const feeds = pool.feeds(parts(1, 2));
    const wrong = {
      past_lengths: new Tensor('int32', Int32Array.of(16, 0), [2]),
      block_tables: new Tensor('int32', Int32Array.of(0, -1), [2, 1]),
    };
    const before = [...(pool.key.data as Float32Array)];
    expect((await pool.run(parts(1, 2), { ...feeds, ...wrong })).flat().every((x) => x === 0)).toBe(true);
    expect([...(pool.key.data as Float32Array)]).toEqual(before);
  });

  it('refuses shapes that do not fit, as the CPU does', async () => {
    const heads = { heads: 2, kvHeads: 1, headDim: 8 };
    const pool = new Pool(await graphs.open(heads, { device, dtype: 'float32' }), heads, 8, [[0]]);
    await expect(pool.run(parts(1))).rejects.toThrow(/blocks of 8 positions; expected a power of two/);
  });
});
