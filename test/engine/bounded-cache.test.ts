/** Where the cache is bounded, the youngest generations give way and are computed again; each says what it says alone. */
import { afterEach, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { AutoModelForCausalLM, EngineError, InputError } from '../../src/index.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { goldenModel } from '../helpers/goldens.ts';

const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] };
const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (seed * 31 + i * 7) % 100);
type Options = Parameters<CausalLM['generate']>[0];

const opened: CausalLM[] = [];
afterEach(async () => {
  for (const model of opened.splice(0)) await model.dispose();
});
async function open(name: string, options: object = {}): Promise<{ model: CausalLM; engine: Engine }> {
  const parts = await loadModel(goldenModel(name), { dtype: 'float32', threads: 2, ...options }, 'logits');
  const model = new CausalLM(parts);
  opened.push(model);
  return { model, engine: parts.engine };
}

/** Many requests of several rows at a time, of which few fit in. */
async function expectAlone(
  name: string,
  maxCacheBytes: number,
  { batch, ...more }: { batch?: boolean } & Options,
): Promise<void> {
  const requests = Array.from({ length: 12 }, (_, i) => {
    const ids = prompt(40 + ((i * 23) % 60), i + 1);
    const inputIds = batch ? [ids, ids.map((id) => (id + 1) % 100)] : [ids];
    return { ...GREEDY, inputIds, maxNewTokens: 24, seed: i, ...more };
  });
  const { model: alone } = await open(name, { prefixCache: false });
  const { model } = await open(name, { maxCacheBytes });
  const said = async (one: CausalLM, request: Options) => {
    const { sequences, routedExperts } = await one.generate(request);
    return { sequences, routedExperts };
  };
  const expected: Awaited<ReturnType<typeof said>>[] = [];
  for (const request of requests) expected.push(await said(alone, request));
  expect(await Promise.all(requests.map((request) => said(model, request)))).toEqual(expected);
  expect(model.executionStats.preemptions).toBeGreaterThan(0);
}

/** Bounds that hold two or three of the rows below, but not six. */
describe.each([
  ['qwen3_moe_c', 1_500_000],
  ['qwen3_next_g', 900_000],
])('%s in a cache of %i bytes', (name, maxCacheBytes) => {
  const requests: Options[] = [
    { inputIds: [prompt(150, 1)], maxNewTokens: 40 },
    { inputIds: [prompt(100, 2)], maxNewTokens: 90 },
    { inputIds: [prompt(180, 3)], maxNewTokens: 30, doSample: true, seed: 3 },
    { inputIds: [prompt(60, 4), prompt(60, 5)], maxNewTokens: 60 },
    { inputIds: [prompt(20, 6)], maxNewTokens: 120, doSample: true, seed: 4, numReturnSequences: 2 },
    { inputIds: [[...prompt(60, 7), ...prompt(60, 7)]], maxNewTokens: 50, promptLookupNumTokens: 4 },
  ].map((request) => ({ ...GREEDY, ...request }));

  it.each([false, undefined])(
    'answers many as it answers each alone (prefixCache: %s)',
    async (prefixCache) => {
      const { model: alone } = await open(name, { prefixCache: false });
      const expected: number[][][] = [];
      for (const request of requests) expected.push((await alone.generate(request)).sequences);
      const { model, engine } = await open(name, { prefixCache, maxCacheBytes });
      let most = 0;
      const put = () => {
        most = Math.max(most, engine.cacheBytes);
      };
      const watch = { put, end: () => {} };
      const run = async (request: Options) => {
        const isOne = request.inputIds?.length === 1 && !('numReturnSequences' in request);
        return (await model.generate({ ...request, ...(isOne && { streamer: watch }) })).sequences;
      };
      for (const order of [requests, [...requests].reverse()]) {
        const results = await Promise.all(order.map(run));
        expect(results).toEqual(order.map((request) => expected[requests.indexOf(request)]));
      }
      expect(model.executionStats.preemptions).toBeGreaterThan(0);
      expect(most).toBeGreaterThan(maxCacheBytes / 3);
      expect(most).toBeLessThanOrEqual(maxCacheBytes);
    },
  );

  it.each([
    ['batches', { batch: true }],
    ['several answers', { doSample: true, numReturnSequences: 2 }],
    ['beams', { numBeams: 3 }],
    ['guesses', { promptLookupNumTokens: 4 }],
    ['the experts of their tokens', { returnRoutedExperts: true }],
  ])('answers many requests for %s as it answers each alone', (_, more) =>
    expectAlone(name, maxCacheBytes, more),
  );

  it('runs forward beside generations, and goes on after aborted ones', async () => {
    const { model: alone } = await open(name, { prefixCache: false });
    const { model } = await open(name, { maxCacheBytes });
    const inputs = { inputIds: [prompt(100, 8), prompt(100, 9)], logitsToKeep: 1 };
    const controller = new AbortController();
    let said = 0;
    const streamer = { put: () => void (++said === 9 && controller.abort()), end: () => {} };
    const [first, second] = requests as [Options, Options];
    const left = model.generate({ ...first, signal: controller.signal, streamer });
    const others = Promise.all([model.forward(inputs), model.generate(second), model.forward(inputs)]);
    await expect(left).rejects.toThrow(/aborted/);
    const [one, tokens, two] = await others;
    expect(tokens.sequences).toEqual((await alone.generate(second)).sequences);
    const logits = (await alone.forward(inputs)).logits.data as Float32Array;
    for (const { logits: found } of [one, two])
      for (const [i, value] of (found.data as Float32Array).entries())
        expect(value).toBeCloseTo(logits[i] as number, 4);
  });
});

it.each([
  ['qwen3_moe_c', 4 * 131_072],
  ['qwen3_next_g', 400_000],
])('guesses of %s need no more of the cache than the row itself', async (name, maxCacheBytes) => {
  const { model: alone } = await open(name, { prefixCache: false });
  const { model } = await open(name, { maxCacheBytes });
  // The longest row that there is room for.
  const inputIds = [prompt(model.contextLength - 60, 2)];
  const request = { inputIds, maxNewTokens: 60, ...GREEDY };
  const { sequences, stats } = await model.generate({ ...request, promptLookupNumTokens: 5 });
  expect(sequences).toEqual((await alone.generate(request)).sequences);
  expect(stats.drafts?.accepted).toBeGreaterThan(0);
  expect(sequences[0]).toHaveLength(model.contextLength);
});

describe('what does not fit', () => {
  const NAME = 'qwen3_moe_c';
  // Ten blocks of 64 positions, of which one is for what is written to in place of a shared one.
  const maxCacheBytes = 10 * 131_072;

  it('is refused before anything runs, by name', async () => {
    const { model } = await open(NAME, { maxCacheBytes });
    expect(model.contextLength).toBe(512);
    const rows = [1, 2, 3].map((seed) => prompt(100, seed));
    const many = model.generate({ inputIds: rows, maxNewTokens: 100, ...GREEDY });
    await expect(many).rejects.toThrow(InputError);
    await expect(many).rejects.toThrow(
      /3 rows of up to 200 tokens need 2.0 MB of cache, and maxCacheBytes allows 1.3 MB/,
    );
    const beams = model.generate({ inputIds: [prompt(100, 1)], maxNewTokens: 100, ...GREEDY, numBeams: 4 });
    await expect(beams).rejects.toThrow(/4 rows/);
    await expect(model.forward({ inputIds: [...rows, ...rows] })).rejects.toThrow(
      /6 rows of up to 100 tokens/,
    );
    const { model: small } = await open(NAME, { maxCacheBytes: 4 * 131_072 });
    expect(small.contextLength).toBe(192);
    await expect(small.generate({ inputIds: [prompt(200, 1)], ...GREEDY })).rejects.toThrow(
      /row 0 has 200 tokens, more than the context of 192 that maxCacheLength or maxCacheBytes leave room for/,
    );
    const { sequences } = await small.generate({ inputIds: [prompt(150, 1)], maxNewTokens: 99, ...GREEDY });
    expect(sequences[0]).toHaveLength(192);
  });

  it('beside caches that somebody keeps says so, and fits once they are gone', async () => {
    const { model } = await open(NAME, { maxCacheBytes });
    const cache = model.createCache();
    await model.generate({ inputIds: [prompt(400, 1)], maxNewTokens: 1, ...GREEDY, cache });
    const request = { inputIds: [prompt(300, 2)], maxNewTokens: 4, ...GREEDY };
    await expect(model.generate(request)).rejects.toThrow(EngineError);
    await expect(model.generate(request)).rejects.toThrow(
      /the cache is full of sequences that are kept.*Dispose of caches/,
    );
    await expect(model.forward({ inputIds: request.inputIds })).rejects.toThrow(/the cache is full/);
    cache.dispose();
    expect((await model.generate(request)).sequences[0]).toHaveLength(304);
  });

  it('is an option that makes no sense', async () => {
    const load = (bound: unknown) =>
      AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { maxCacheBytes: bound as number });
    await expect(load('much')).rejects.toThrow(/maxCacheBytes is "much"; expected a number of bytes/);
    const refusal: Error = await load('1kB').catch((error) => error);
    expect(refusal.message).toMatch(/maxCacheBytes is "1kB", too little for a single block/);
    const least = Number(/at least (\d+) bytes/.exec(refusal.message)?.[1]);
    await expect(load(least - 1)).rejects.toThrow(/too little/);
    const model = await load(least);
    await model.dispose();
  });
});
