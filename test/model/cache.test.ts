/** Caches that callers hold: what comes after them is what comes after the whole prompt. */
import { once } from 'node:events';
import { readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModel,
  AutoModelForImageTextToText,
  AutoProcessor,
  Cache,
  type CausalLM,
  CheckpointError,
  InputError,
  type LoadOptions,
} from '../../src/index.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';
import { describeCache, GREEDY, load, OPTIONS, prompt, useFolder } from './cache.ts';

const folder = useFolder();

describe.each(['qwen3_moe_c', 'qwen3_next_g', 'qwen4_exp_k'])('a cache of %s on the CPU', (name) =>
  describeCache(name),
);

it('a cache with recurrent states that is cut goes on from states that are kept', async () => {
  const [model, alone] = [await load('qwen3_next_g', { prefixCache: {} }), await load('qwen3_next_g')];
  const answer = (ids: readonly number[]) => ({
    inputIds: [ids],
    maxNewTokens: 140,
    ...GREEDY,
  });
  using cache = model.createCache();
  const ends: number[] = [];
  const prompts: number[] = [];
  let ids: number[] = [];
  for (const turn of [1, 2, 3]) {
    ids = [...ids, ...prompt(400, turn)];
    prompts.push(ids.length);
    const { sequences } = await model.generate({ ...answer(ids), cache });
    ids = sequences[0] as number[];
    ends.push(cache.length);
  }
  // To the end of a turn, of a prompt, and into the midst of both: at most two blocks and what attention wants are computed again.
  for (const [length, again] of [
    [ends[1], 64 + 33],
    [prompts[1], 64 + 33],
    [(ends[1] as number) - 40, 2 * 64 + 33],
    [ends[0], 64 + 33],
  ] as [number, number][]) {
    using cut = cache.fork();
    cut.truncate(length);
    const next = [...cut.ids, ...prompt(20, 9)];
    const { sequences, stats } = await model.generate({
      ...answer(next),
      maxNewTokens: 6,
      cache: cut,
    });
    expect(sequences).toEqual((await alone.generate({ ...answer(next), maxNewTokens: 6 })).sequences);
    expect(stats.promptTokens - stats.cachedTokens - 20).toBeLessThanOrEqual(again);
  }
  await Promise.all([model.dispose(), alone.dispose()]);
});

it('what a cache has of another experts backend, or from a file, is for nobody else to go on from', async () => {
  await using model = await load('qwen3_moe_c', { prefixCache: {} });
  const run = (ids: readonly number[], more: object) =>
    model.generate({ inputIds: [ids], maxNewTokens: 3, ...GREEDY, ...more });
  const start = prompt(150, 1);
  const file = join(folder.path, 'stranger.safetensors');
  using cache = model.createCache();
  await run(start, { cache, expertsImplementation: 'eager' });
  await cache.save(file);
  using loaded = await model.loadCache(file);
  const longer = [...cache.ids, ...prompt(150, 2)];
  await run(longer, { cache, expertsImplementation: 'grouped_mm' });
  await run(longer, { cache: loaded, expertsImplementation: 'batched_mm' });
  const cachedOf = async (expertsImplementation: string) =>
    (await run(longer, { expertsImplementation })).stats.cachedTokens;
  expect([await cachedOf('grouped_mm'), await cachedOf('batched_mm')]).toEqual([0, 0]);
  // What it has of one backend is.
  using pure = model.createCache();
  await run(start, { cache: pure, expertsImplementation: 'eager' });
  await run([...pure.ids, ...prompt(150, 3)], {
    cache: pure,
    expertsImplementation: 'eager',
  });
  const { stats } = await run([...pure.ids, ...prompt(40, 4)], {
    expertsImplementation: 'eager',
  });
  expect(stats.cachedTokens).toBeGreaterThan(256);
});

describe('a cache', () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await load('qwen3_moe_c');
  });
  afterAll(() => model.dispose());
  const run = (ids: readonly number[], more: object = {}) =>
    model.generate({ inputIds: [ids], maxNewTokens: 4, ...GREEDY, ...more });

  it('is streamed with, and stays as it was when a call fails or is left', async () => {
    using cache = model.createCache();
    const { sequences } = await run(prompt(70, 1), { cache });
    const before = cache.ids;
    const ids = [...(sequences[0] as number[]), 5, 6];
    const controller = new AbortController();
    let said = 0;
    const streamer = { put: () => void (++said === 3 && controller.abort()), end: () => {} };
    await expect(run(ids, { cache, streamer, signal: controller.signal })).rejects.toThrow(/aborted/);
    const broken = { put: () => Promise.reject(new Error('full')), end: () => {} };
    await expect(run(ids, { cache, streamer: broken })).rejects.toThrow('full');
    expect(cache.ids).toEqual(before);
    expect((await run(ids, { cache })).sequences).toEqual((await run(ids)).sequences);
  });

  it('holds what guesses have left of it', async () => {
    using cache = model.createCache();
    const ids = [...prompt(40, 2), ...prompt(40, 2)];
    const lookup = { promptLookupNumTokens: 5, maxNewTokens: 30 };
    const { sequences } = await run(ids, { cache, ...lookup });
    const all = sequences[0] as number[];
    expect(cache.ids).toEqual(all.slice(0, cache.length));
    expect(cache.length).toBeGreaterThanOrEqual(ids.length);
    const next = [...all, 1, 2];
    expect((await run(next, { cache })).sequences).toEqual((await run(next)).sequences);
  });

  it('gives hidden states, too', async () => {
    const base = await AutoModel.fromPretrained(goldenModel('qwen3_moe_c'), OPTIONS);
    using cache = base.createCache();
    const ids = prompt(20, 3);
    const whole = await base.forward({ inputIds: [ids] });
    await base.forward({ inputIds: [ids.slice(0, 12)], cache });
    const rest = await base.forward({ inputIds: [ids.slice(12)], cache });
    const hidden = whole.lastHiddenState.dims[2] as number;
    const expected = (whole.lastHiddenState.data as Float32Array).subarray(12 * hidden);
    expect(maxDifference(rest.lastHiddenState.data as Float32Array, expected)).toBeLessThanOrEqual(3e-5);
    await base.dispose();
  });

  it('refuses what it cannot do, by name', async () => {
    const cache = model.createCache();
    const ids = prompt(30, 4);
    await run(ids, { cache });
    const refuse = (more: object, message: RegExp) => expect(run(ids, more)).rejects.toThrow(message);
    await refuse({ cache: {} }, /generate: cache is {}; expected a cache/);
    await refuse({ cache }, /cache holds 33 tokens, but the prompt has only 30.*truncate\(30\)/);
    await expect(run([...ids.slice(0, 17), ...prompt(40, 9)], { cache })).rejects.toThrow(
      /token 17 is \d+ in the cache and \d+ in the prompt.*truncate\(17\)/,
    );
    await refuse({ cache, numBeams: 2 }, /cache holds one sequence/);
    await expect(model.generate({ inputIds: [ids, ids], cache })).rejects.toThrow(/cache holds one sequence/);
    await expect(model.forward({ inputIds: [ids, ids], cache })).rejects.toThrow(/inputIds has 2 rows/);
    await expect(model.chat({ cache } as object)).rejects.toThrow(/cache is the chat's own/);
    for (const length of [-1, 34, 1.5, '3' as never])
      expect(() => cache.truncate(length)).toThrow(/a whole number from 0 to 33/);
    const other = await load('qwen3_moe_c');
    await expect(other.generate({ inputIds: [ids], cache })).rejects.toThrow(/belongs to another model/);
    await other.dispose();
    const longer = [...cache.ids, 1, 2];
    const first = run(longer, { cache });
    await expect(run(longer, { cache })).rejects.toThrow(/in use by another call/);
    await first;
    cache.dispose();
    cache.dispose();
    expect(() => cache.length).toThrow(InputError);
    await expect(run(longer, { cache })).rejects.toThrow(/disposed/);
    expect(cache).toBeInstanceOf(Cache);
  });

  it('gives its memory back', async () => {
    const own = await load('qwen3_moe_c');
    const { engine } = (
      own as unknown as { parts: { engine: { cacheBytes: number; reserve(s: []): Promise<void> } } }
    ).parts;
    const caches = Array.from({ length: 12 }, () => own.createCache());
    for (const [i, cache] of caches.entries())
      await own.generate({ inputIds: [prompt(500, i)], maxNewTokens: 1, ...GREEDY, cache });
    const held = engine.cacheBytes;
    for (const cache of caches) cache.dispose();
    await engine.reserve([]);
    expect(engine.cacheBytes).toBeLessThan(held / 2);
    await own.dispose();
  });
});

describe('a file that is no cache of the model', () => {
  let model: CausalLM;
  let file: string;
  let bytes: Buffer;
  beforeAll(async () => {
    model = await load('qwen3_moe_c');
    file = join(folder.path, 'damaged.safetensors');
    using cache = model.createCache();
    await model.generate({ inputIds: [prompt(70, 1)], maxNewTokens: 2, ...GREEDY, cache });
    await cache.save(file);
    bytes = await readFile(file);
  });
  afterAll(() => model.dispose());

  it('is refused wherever a byte of it has changed', async () => {
    const header = 8 + Number(bytes.readBigUInt64LE());
    const places = Array.from({ length: 24 }, (_, i) => Math.floor(((i + 0.5) * bytes.length) / 24));
    for (const place of [8, header - 40, header, ...places, bytes.length - 1]) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8((changed[place] as number) ^ 0x11, place);
      await writeFile(file, changed);
      await expect(model.loadCache(file), `byte ${place}`).rejects.toThrow(CheckpointError);
      await expect(model.loadCache(file)).rejects.toThrow(file);
    }
  });

  it('is refused where it was cut short, or is something else', async () => {
    for (const length of [0, 7, 100, bytes.length - 1]) {
      await writeFile(file, bytes);
      await truncate(file, length);
      await expect(model.loadCache(file)).rejects.toThrow(CheckpointError);
    }
    await expect(model.loadCache(join(goldenModel('qwen3_moe_c'), 'model.safetensors'))).rejects.toThrow(
      /is no cache of .*it has no tensor "about"/,
    );
    await expect(model.loadCache(join(folder.path, 'none'))).rejects.toThrow(/no such file/);
    await expect(model.loadCache(5 as never)).rejects.toThrow(/loadCache: the file is 5/);
    using cache = model.createCache();
    await expect(cache.save(join(folder.path, 'no', 'folder'))).rejects.toThrow(
      /cannot be written \(ENOENT\)/,
    );
  });

  it('is refused by other models, with the reason', async () => {
    await writeFile(file, bytes);
    const refused: [string, LoadOptions, RegExp][] = [
      ['qwen3_moe_d', {}, /a model with other weights has written it/],
      ['qwen2_moe_a', {}, /a qwen3_moe has written it, and this is a qwen2_moe/],
      ['qwen3_moe_c', { config: { rope_theta: 5000 } }, /another config.json/],
      ['qwen3_moe_c', { cacheDtype: 'bfloat16' }, /is F32, and this model keeps BF16.*cacheDtype/],
      ['qwen3_moe_c', { maxCacheLength: 20 }, /it has 71 tokens, and the context holds 20/],
    ];
    for (const [name, options, message] of refused) {
      const other = await load(name, options);
      await expect(other.loadCache(file)).rejects.toThrow(message);
      await other.dispose();
    }
  });

  it('with an empty cache is read, too', async () => {
    using cache = model.createCache();
    await cache.save(file);
    using loaded = await model.loadCache(file);
    expect(loaded.length).toBe(0);
  });
});

it('a cache is kept in regular files, in the place of nothing else', async () => {
  const model = await load('qwen3_moe_c');
  using cache = model.createCache();
  const socket = join(folder.path, 'socket');
  const server = createServer().listen(socket);
  await once(server, 'listening');
  await expect(cache.save(socket)).rejects.toThrow(`${socket} is a pipe, socket or device. Choose another`);
  await expect(cache.save(folder.path)).rejects.toThrow(`${folder.path} is a folder. Choose another`);
  expect((await stat(socket)).isSocket()).toBe(true);
  server.close();
  await model.dispose();
});

it('outlives its model, but is not written, read or used then', async () => {
  const model = await load('qwen3_moe_c');
  const file = join(folder.path, 'outlives.safetensors');
  const cache = model.createCache();
  await model.generate({ inputIds: [prompt(40, 2)], maxNewTokens: 2, ...GREEDY, cache });
  await cache.save(file);
  await model.dispose();
  const message = 'the model was disposed; load it again with fromPretrained';
  await expect(cache.save(file)).rejects.toThrow(message);
  await expect(model.loadCache(file)).rejects.toThrow(message);
  expect(cache.length).toBe(41);
  cache.dispose();
});

it('pictures in a cache are told apart, in a file too', async () => {
  const source = goldenModel('qwen3_vl_moe_e');
  const model = await AutoModelForImageTextToText.fromPretrained(source, OPTIONS);
  const processor = await AutoProcessor.fromPretrained(source);
  const picture = (shade: number) => {
    const data = new Uint8Array(64 * 64 * 3).map((_, i) => (i * shade) % 251);
    return { data, width: 64, height: 64, channels: 3 as const };
  };
  const inputs = (text: string, shade: number) =>
    processor({ text: `<|vision_start|><|image_pad|><|vision_end|>${text}`, images: [picture(shade)] });
  const run = async (text: string, shade: number, cache?: Cache) =>
    model.generate({ ...(await inputs(text, shade)), maxNewTokens: 4, ...GREEDY, ...(cache && { cache }) });
  using cache = model.createCache();
  await run('What is this?', 3, cache);
  cache.truncate((await inputs('What is this?', 3)).inputIds[0]?.length as number);
  const file = join(folder.path, 'picture.safetensors');
  await cache.save(file);
  using loaded = await model.loadCache(file);
  const longer = 'What is this? And that?';
  await expect(run(longer, 5, loaded)).rejects.toThrow(/stands for another picture/);
  const [a, b] = [await run(longer, 3, loaded), await run(longer, 3)];
  expect(a.sequences).toEqual(b.sequences);
  expect(a.stats.cachedTokens).toBeGreaterThan(5);
  await model.dispose();
});
