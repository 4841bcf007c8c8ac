/** Generations that run at the same time share passes, and none of them can tell. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { RequestQueue } from '../../src/engine/request-queue.ts';
import type { Runner } from '../../src/engine/runner.ts';
import { AbortError, EngineError } from '../../src/errors.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import type { ModelParts } from '../../src/model/model-parts.ts';
import { goldenModel } from '../helpers/goldens.ts';

let parts: ModelParts;
let engine: Engine;
let model: CausalLM;
/** Chunks and tokens of every pass. */
const passes: { rows: number; tokens: number }[] = [];

beforeAll(async () => {
  parts = await loadModel(
    goldenModel('qwen3_moe_c'),
    { dtype: 'float32', threads: 2, prefixCache: false },
    'logits',
  );
  ({ engine } = parts);
  model = new CausalLM(parts);
});
afterAll(() => model.dispose());
afterEach(() => {
  vi.restoreAllMocks();
  passes.length = 0;
});

const prompt = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (seed * 31 + i * 7) % model.vocabSize);
const generate = (ids: number[], more: object = {}) =>
  model.generate({ inputIds: [ids], maxNewTokens: 12, eosTokenId: [], doSample: false, ...more });

/** Notes what the session computes from now on. */
async function watchPasses() {
  const { Runner } = await import('../../src/engine/runner.ts');
  const { run } = Runner.prototype;
  vi.spyOn(Runner.prototype, 'run').mockImplementation(function (
    this: InstanceType<typeof Runner>,
    request,
    signal,
  ) {
    const { batch } = request;
    passes.push({ rows: batch.pastLengths.length, tokens: batch.ids.length });
    return run.call(this, request, signal);
  });
}

describe('generations at the same time', () => {
  it('give what each gives alone, sampling too, in fewer passes', async () => {
    const requests = [
      { ids: prompt(5, 1), more: {} },
      { ids: prompt(490, 2), more: { maxNewTokens: 5 } },
      { ids: prompt(40, 3), more: { doSample: true, seed: 7, temperature: 0.8 } },
      { ids: prompt(3, 4), more: { doSample: true, seed: 8, topK: 0 } },
      { ids: prompt(90, 5), more: { repetitionPenalty: 1.2 } },
    ];
    const alone = [];
    await watchPasses();
    for (const { ids, more } of requests) alone.push((await generate(ids, more)).sequences);
    const separate = passes.splice(0).length;
    const together = await Promise.all(requests.map(({ ids, more }) => generate(ids, more)));
    expect(together.map(({ sequences }) => sequences)).toEqual(alone);
    expect(passes.length).toBeLessThan(separate / 2);
    expect(Math.max(...passes.map(({ rows }) => rows))).toBe(5);
  });

  it('of different backends run in passes of their own', async () => {
    const backends = ['eager', 'batched_mm', 'grouped_mm'];
    const runs = await Promise.all(
      backends.map((expertsImplementation) => generate(prompt(9, 6), { expertsImplementation })),
    );
    for (const [i, { stats }] of runs.entries())
      expect(Object.keys(stats.expertsCalls)).toEqual([backends[i]]);
    const [first, ...rest] = runs.map(({ sequences }) => sequences);
    for (const sequences of rest) expect(sequences).toEqual(first);
  });

  it('let a decoding row go on while a long prompt runs', async () => {
    await watchPasses();
    let long: Promise<unknown> | undefined;
    const put = () => {
      long ??= generate(prompt(480, 8), { maxNewTokens: 2 });
    };
    await generate(prompt(4, 7), { maxNewTokens: 40, streamer: { put, end: () => {} } });
    await long;
    // The short one's row stands beside the long one's prompt.
    expect(passes.some(({ rows, tokens }) => rows === 2 && tokens > 2)).toBe(true);
  });
});

describe('a generation that is aborted', () => {
  it('leaves the others alone and gives its part of the cache back', async () => {
    const expected = (await generate(prompt(6, 9), { maxNewTokens: 30 })).sequences;
    for (let round = 0; round < 5; round++) {
      const controller = new AbortController();
      const stop = { put: () => {}, end: () => {} };
      let said = 0;
      const aborted = generate(prompt(30, 10 + round), {
        maxNewTokens: 400,
        signal: controller.signal,
        streamer: { ...stop, put: () => void (++said === 4 + round && controller.abort()) },
      });
      const [result, other] = await Promise.allSettled([
        aborted,
        generate(prompt(6, 9), { maxNewTokens: 30 }),
      ]);
      expect(result).toMatchObject({ status: 'rejected', reason: expect.any(AbortError) });
      expect(other).toMatchObject({ status: 'fulfilled', value: { sequences: expected } });
    }
    // Whatever was held has been given back: the pool needs no more blocks than before.
    const { cacheBytes } = engine;
    for (let round = 0; round < 3; round++) await generate(prompt(6, 9));
    expect(engine.cacheBytes).toBe(cacheBytes);
  });

  it('while a pass takes in its guesses leaves the others their own scores', async () => {
    // A row that repeats itself has something to guess at every step.
    const repeating = { maxNewTokens: 30, promptLookupNumTokens: 4, prefixAllowedTokensFn: () => [5] };
    const guessed = [5, 5, 5];
    const others = [prompt(6, 9), prompt(20, 41), prompt(3, 42)];
    const alone = [];
    for (const ids of others) alone.push((await generate(ids, { maxNewTokens: 30 })).sequences);
    // They come back after it, and so stand behind it in the next pass; turns of the event loop, which go by time, would change that.
    const { Pace } = await import('../../src/generation/pace.ts');
    vi.spyOn(Pace.prototype, 'breathe').mockResolvedValue();
    const queue = (await import('../../src/engine/request-queue.ts')).RequestQueue.prototype;
    const { ask } = queue;
    let begun = 0;
    let askedAfter = -1;
    let resume: (() => void)[] = [];
    const goOn = () => {
      for (const go of resume) go();
      resume = [];
    };
    vi.spyOn(queue, 'ask').mockImplementation(function (this: RequestQueue, request, isNext) {
      const scores = ask.call(this, request, isNext);
      if (request.sequences[0]?.prompt.ids.join() === guessed.join()) {
        askedAfter = begun;
        goOn();
      }
      return scores;
    });
    let ended = false;
    const put = async () => {
      while (!ended && askedAfter !== begun) await new Promise<void>((go) => resume.push(go));
    };
    const slow = { maxNewTokens: 30, streamer: { put, end: () => {} } };
    const controller = new AbortController();
    const runner = (await import('../../src/engine/runner.ts')).Runner.prototype;
    const { run } = runner;
    vi.spyOn(runner, 'run').mockImplementation(function (this: Runner, request, signal) {
      begun++;
      const { pastLengths, rowStarts } = request.batch;
      const tokensOf = (row: number) => (rowStarts[row + 1] as number) - (rowStarts[row] as number);
      const guessing = pastLengths.findIndex((past, row) => past > 0 && tokensOf(row) > 1);
      if (guessing >= 0 && guessing < pastLengths.length - 1) controller.abort();
      return run.call(this, request, signal);
    });
    const [result, ...rest] = await Promise.allSettled([
      generate(guessed, { ...repeating, signal: controller.signal }).finally(() => {
        ended = true;
        goOn();
      }),
      ...others.map((ids) => generate(ids, slow)),
    ]);
    expect(result).toMatchObject({ status: 'rejected', reason: expect.any(AbortError) });
    for (const [i, sequences] of alone.entries())
      expect(rest[i]).toMatchObject({ status: 'fulfilled', value: { sequences } });
  });

  it('before its first pass costs nobody anything', async () => {
    const controller = new AbortController();
    const running = generate(prompt(400, 20), { maxNewTokens: 3 });
    const waiting = generate(prompt(400, 21), { maxNewTokens: 3, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    expect((await running).sequences[0]).toHaveLength(403);
  });
});

it('a pass that fails rejects those that were in it, and the next ones run', async () => {
  const { Runner } = await import('../../src/engine/runner.ts');
  const expected = (await generate(prompt(6, 9))).sequences;
  vi.spyOn(Runner.prototype, 'run').mockRejectedValueOnce(new EngineError('no luck'));
  const results = await Promise.allSettled([generate(prompt(6, 9)), generate(prompt(7, 9))]);
  expect(results.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0);
  for (const result of results)
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ message: 'no luck' });
  expect((await generate(prompt(6, 9))).sequences).toEqual(expected);
});

it('a hundred generations, some of them aborted, leave nothing behind', async () => {
  const prompts = Array.from({ length: 100 }, (_, i) => prompt(1 + ((i * 37) % 150), i));
  const alone = [];
  for (const ids of prompts.slice(0, 10)) alone.push((await generate(ids, { maxNewTokens: 4 })).sequences);
  const runs = prompts.map((ids, i) => {
    const controller = new AbortController();
    let said = 0;
    const put = () => void (++said === 3 && i % 5 === 4 && controller.abort());
    return generate(ids, { maxNewTokens: 4, signal: controller.signal, streamer: { put, end: () => {} } });
  });
  const results = await Promise.allSettled(runs);
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(20);
  for (const [i, sequences] of alone.entries())
    if (i % 5 !== 4) expect(results[i]).toMatchObject({ status: 'fulfilled', value: { sequences } });
  // Memory goes back in a turn of its own.
  await engine.reserve([]);
  // With no sequence open, the pool keeps at most 64 blocks of 64 positions.
  const most = 2 * engine.model.caches.length * 64 * 64 * 4;
  const perPosition = engine.model.caches.map((spec) =>
    spec.kind === 'keys_values' ? spec.kvHeads * spec.headDim : 0,
  );
  expect(engine.cacheBytes).toBeLessThanOrEqual(most * Math.max(...perPosition));
});
