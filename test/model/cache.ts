/** Caches that callers hold, on the CPU and on a device: what comes after them is what comes after the whole prompt. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, type LoadOptions } from '../../src/index.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';

export const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] };
export const OPTIONS: LoadOptions = { dtype: 'float32', threads: 2, prefixCache: false };
export const prompt = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (seed * 31 + i * 7) % 100);

/** A folder for the tests of a file. */
export function useFolder(): { readonly path: string } {
  const folder = { path: '' };
  beforeAll(async () => {
    folder.path = await mkdtemp(join(tmpdir(), 'switchyard-cache-'));
  });
  afterAll(() => rm(folder.path, { recursive: true, force: true }));
  return folder;
}

export const load = (name: string, options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(goldenModel(name), { ...OPTIONS, ...options });

/** @param scale of the prompts' lengths */
export function describeCache(name: string, where: LoadOptions = {}, scale = 1): void {
  const folder = useFolder();
  let model: CausalLM;
  beforeAll(async () => {
    model = await load(name, where);
  });
  afterAll(() => model.dispose());
  const generate = async (ids: readonly number[], more: object = {}) => {
    const { sequences, stats } = await model.generate({
      inputIds: [ids],
      maxNewTokens: 8,
      ...GREEDY,
      ...more,
    });
    return { ids: sequences[0] as number[], computed: stats.promptTokens - stats.cachedTokens };
  };
  const size = (tokens: number) => Math.ceil(tokens * scale);

  it('turn by turn, only what is new is computed', async () => {
    using cache = model.createCache();
    let ids = prompt(size(130), 1);
    for (const turn of [1, 2, 3]) {
      const alone = await generate(ids);
      const { ids: all, computed } = await generate(ids, { cache });
      expect(all).toEqual(alone.ids);
      expect(computed).toBe(turn === 1 ? ids.length : 6);
      expect(cache.ids).toEqual(all.slice(0, -1));
      ids = [...all, ...prompt(5, turn + 1)];
    }
    expect(inspect(cache)).toBe(`Cache(${cache.length} tokens)`);
  });

  it('forks go their own ways, and each may be cut', async () => {
    using cache = model.createCache();
    const base = prompt(size(100), 3);
    const { ids } = await generate(base, { cache });
    using fork = cache.fork();
    const [a, b] = [prompt(4, 5), prompt(4, 6)].map((more) => [...ids, ...more]) as [number[], number[]];
    const results = await Promise.all([generate(a, { cache }), generate(b, { cache: fork })]);
    expect(results.map((result) => result.ids)).toEqual([(await generate(a)).ids, (await generate(b)).ids]);
    cache.truncate(base.length);
    expect(cache.ids).toEqual(base);
    const other = [...base, ...prompt(9, 7)];
    const again = await generate(other, { cache });
    expect(again.ids).toEqual((await generate(other)).ids);
    expect(cache.length).toBe(again.ids.length - 1);
  });

  it('forward goes on after it, token by token too, as in one pass', async () => {
    using cache = model.createCache();
    const ids = prompt(size(90), 8);
    const whole = (await model.forward({ inputIds: [ids] })).logits.data as Float32Array;
    const { vocabSize } = model;
    const rows = (from: number, to: number) => whole.subarray(from * vocabSize, to * vocabSize);
    const step = async (from: number, to: number) => {
      const { logits } = await model.forward({ inputIds: [ids.slice(from, to)], cache });
      expect(logits.dims).toEqual([1, to - from, vocabSize]);
      expect(maxDifference(logits.data as Float32Array, rows(from, to))).toBeLessThanOrEqual(3e-5);
      expect(cache.length).toBe(to);
    };
    const part = size(70);
    await step(0, part);
    for (let at = part; at < part + 4; at++) await step(at, at + 1);
    cache.truncate(part - 3);
    await step(part - 3, ids.length);
  });

  it('comes back from a file as it was', async () => {
    const file = join(folder.path, `${name}-${model.dtype}.safetensors`);
    const { ids } = await (async () => {
      using cache = model.createCache();
      const result = await generate(prompt(size(110), 9), { cache });
      await cache.save(file);
      await cache.save(file);
      return result;
    })();
    expect((await readdir(folder.path)).filter((one) => one.includes('partial'))).toEqual([]);
    using loaded = await model.loadCache(file);
    expect([loaded.ids, loaded.computed]).toEqual([ids.slice(0, -1), ids.length - 1]);
    const next = [...ids, ...prompt(5, 2)];
    const result = await generate(next, { cache: loaded });
    expect(result).toEqual({ ids: (await generate(next)).ids, computed: 6 });
  });
}
