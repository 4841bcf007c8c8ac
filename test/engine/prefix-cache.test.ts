/** Prompts that begin as earlier ones did are computed from there on only, and nobody can tell. */
import { beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  InputError,
  type LoadOptions,
} from '../../src/index.ts';
import type { CausalLM } from '../../src/model/causal-lm.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';
import { GREEDY, generate, NAME, open, prompt } from './prefix-cache.ts';

describe('a prompt that begins as an earlier one', () => {
  let cached: CausalLM;
  let alone: CausalLM;
  beforeAll(async () => {
    cached = (await open()).model;
    alone = (await open({ prefixCache: false })).model;
  });
  const expectSame = async (ids: readonly number[], more: object = {}) => {
    const [a, b] = [await generate(cached, ids, more), await generate(alone, ids, more)];
    expect(a.tokens).toEqual(b.tokens);
    expect(b.cached).toBe(0);
    return { cached: a.cached, tokens: a.tokens };
  };

  it('is computed from where it differs, wherever in a block that is', async () => {
    const base = prompt(300, 1);
    expect((await expectSame(base)).cached).toBe(0);
    const others = [64, 65, 100, 128, 200, 255].map((common) => [
      ...base.slice(0, common),
      ...prompt(60, common),
    ]);
    const counts = [];
    for (const ids of others) counts.push((await expectSame(ids)).cached);
    expect(counts).toEqual([64, 65, 100, 128, 200, 255]);
    expect((await expectSame([...base.slice(0, 63), ...prompt(60, 2)])).cached).toBe(0);
  });

  it('as the next turn of a chat is computed from where the last one ended', async () => {
    let ids = prompt(150, 3);
    for (const turn of [1, 2, 3]) {
      const { cached: count, tokens } = await expectSame(ids, { maxNewTokens: 20 });
      if (turn > 1) expect(count).toBeGreaterThan(ids.length - 50);
      ids = [...ids, ...tokens, ...prompt(40, 10 + turn)];
    }
  });

  it('given again is computed again in so far as its bits depend on it', async () => {
    const ids = prompt(200, 4);
    await expectSame(ids);
    const again = await expectSame(ids);
    expect(again.cached).toBe(200 - 33);
    await expectSame(ids, { doSample: true, seed: 5, temperature: 1.3 });
  });

  it('is not mixed with what another backend has computed', async () => {
    const ids = prompt(180, 5);
    for (const expertsImplementation of ['eager', 'batched_mm'])
      expect((await expectSame(ids, { expertsImplementation })).cached).toBe(0);
    expect((await expectSame(ids, { expertsImplementation: 'eager' })).cached).toBe(147);
  });

  it('may come at the same time: rows of one batch and others share what the first has computed', async () => {
    const common = prompt(150, 6);
    const all = [1, 2, 3].map((seed) => [...common, ...prompt(50, 20 + seed)]);
    const expected = [];
    for (const ids of all) expected.push((await generate(alone, ids)).tokens);
    const first = generate(cached, all[0] as number[]);
    const results = await Promise.all([first, ...all.map((ids) => generate(cached, ids))]);
    expect(results.slice(1).map(({ tokens }) => tokens)).toEqual(expected);
    const { sequences, stats } = await cached.generate({ inputIds: all, maxNewTokens: 8, ...GREEDY });
    expect(sequences.map((row) => row.slice(200))).toEqual(expected);
    expect(stats).toMatchObject({ promptTokens: 600, cachedTokens: 3 * 167 });
  });

  it('is kept of an aborted generation, as far as that came', async () => {
    const ids = prompt(160, 7);
    const controller = new AbortController();
    let said = 0;
    const streamer = { put: () => void (++said === 4 && controller.abort()), end: () => {} };
    await expect(generate(cached, ids, { signal: controller.signal, streamer })).rejects.toThrow(/aborted/);
    expect((await expectSame(ids)).cached).toBe(127);
  });
});

/**
 * In bfloat16 the keys, values and logits of a prompt are the same bits whatever it comes with, where the processor multiplies bfloat16
 * (AVX512_BF16); elsewhere, and in float32, products of one row add up in another order than those of several: see mixed-pass.test.ts.
 */
it.each([
  ['bfloat16', 2e-6],
  ['float32', 2e-5],
] as const)('logits after a prefix in %s are those of the whole prompt', async (dtype, tolerance) => {
  const { engine } = await open({ dtype });
  const ids = prompt(210, 8);
  const logits = async (length: number) => {
    const sequence = engine.open({ ids: ids.slice(0, length) }, 0, 'grouped_mm');
    await engine.reserve([sequence]);
    const { cachedTokens, pending } = sequence;
    const { outputs } = await engine.run({
      ...{ chunks: [{ sequence, tokens: pending }], experts: 'grouped_mm', kind: 'grouped_mm' },
      ...{ head: 'logits', intermediates: false, wanted: (_, place) => place === length - 1 },
    });
    engine.close(sequence);
    return { cachedTokens, row: outputs.logits?.data as Float32Array };
  };
  const whole = await logits(210);
  expect(whole.cachedTokens).toBe(0);
  const continued = await logits(210);
  expect(continued.cachedTokens).toBe(177);
  expect(maxDifference(continued.row, whole.row)).toBeLessThanOrEqual(tolerance);
});

describe('what is kept', () => {
  it('stays within its bound, the latest first', async () => {
    const { model, engine } = await open({ prefixCache: { maxBytes: '1.2MB' } });
    const prompts = [1, 2, 3, 4, 5, 6].map((seed) => prompt(200, 30 + seed));
    for (const ids of prompts) await generate(model, ids, { maxNewTokens: 1 });
    const first = await generate(model, prompts[0] as number[]);
    const last = await generate(model, prompts[5] as number[]);
    expect([first.cached, last.cached]).toEqual([0, 167]);
    await engine.reserve([]);
    // And what a pool keeps without prefixes, 64 blocks.
    const perBlock = engine.cacheBytes / Math.max(1, engine.cacheBlocks);
    expect(engine.cacheBytes).toBeLessThanOrEqual(1.2e6 + 64 * perBlock);
  });

  it('is nothing where the option says so, and the option is checked', async () => {
    const load = (prefixCache: unknown) =>
      AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { prefixCache: prefixCache as false });
    for (const [option, message] of [
      [true, /prefixCache is true; expected false, or an object with maxBytes/],
      [{ maxBytes: 'much' }, /prefixCache: maxBytes is "much"; expected a number of bytes/],
      [{ bytes: 5 }, /maxBytes/],
    ] as const) {
      await expect(load(option)).rejects.toThrow(InputError);
      await expect(load(option)).rejects.toThrow(message);
    }
  });
});

it('pictures are told apart by what is seen in them, not by their placeholders', async () => {
  const source = goldenModel('qwen3_vl_moe_e');
  const load = (options: LoadOptions = {}) =>
    AutoModelForImageTextToText.fromPretrained(source, { dtype: 'float32', threads: 2, ...options });
  const [shared, alone] = [await load(), await load({ prefixCache: false })];
  const processor = await AutoProcessor.fromPretrained(source);
  const picture = (shade: number) => {
    const data = new Uint8Array(128 * 128 * 3).map((_, i) => (i * shade) % 251);
    return { data, width: 128, height: 128, channels: 3 as const };
  };
  const text = `<|vision_start|><|image_pad|><|vision_end|>${'What is in the picture? '.repeat(12)}`;
  const cached = [];
  for (const shade of [3, 5, 3]) {
    const inputs = await processor({ text, images: [picture(shade)] });
    const run = (model: typeof shared) => model.generate({ ...inputs, maxNewTokens: 6, ...GREEDY });
    const [a, b] = [await run(shared), await run(alone)];
    expect(a.sequences).toEqual(b.sequences);
    cached.push(a.stats.cachedTokens);
  }
  expect(cached[0]).toBe(0);
  expect(cached[1]).toBe(0);
  expect(cached[2]).toBeGreaterThan(64);
  await Promise.all([shared.dispose(), alone.dispose()]);
});
