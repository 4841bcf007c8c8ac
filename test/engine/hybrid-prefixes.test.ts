/** Models with recurrent states go on from where these were kept, and nobody can tell. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import { DecoderDecoding } from '../../src/engine/decoding.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';
import { openSummingEngine } from '../helpers/summing-engine.ts';
import { nextBySum } from '../helpers/summing-model.ts';

const EXPERTS = { requested: () => 'grouped_mm', choose: () => 'grouped_mm' };
const KINDS = ['recurrent', 'keys_values', 'recurrent'] as const;
const VOCAB = 97;
const prompt = (length: number, seed: number, vocab = VOCAB) =>
  Array.from({ length }, (_, i) => (seed * 31 + i * 7) % vocab);

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (let close = closing.pop(); close; close = closing.pop()) await close();
});

async function openSums(where: 'cpu' | 'cuda', prefixBytes: number): Promise<Engine> {
  const { engine, close } = await openSummingEngine(VOCAB, KINDS, where, prefixBytes);
  closing.push(close);
  return engine;
}

/** Greedy tokens after a prompt, which must be what the sums say, and how many of the prompt did not run. */
async function expectSums(engine: Engine, ids: readonly number[], count: number) {
  const decoding = new DecoderDecoding(engine, [{ ids }], count, EXPERTS);
  const tokens: number[] = [];
  try {
    let scores = await decoding.prefill(1);
    for (;;) {
      tokens.push(scores.top.ids[0] as number);
      expect(tokens.at(-1)).toBe(nextBySum([...ids, ...tokens.slice(0, -1)], VOCAB, KINDS.length));
      if (tokens.length === count) return { tokens, cached: decoding.cachedTokens };
      scores = await decoding.step([0], [[tokens.at(-1) as number]], 1);
    }
  } finally {
    decoding.dispose();
  }
}

/** @param rounds of random conversations */
function describeSums(where: 'cpu' | 'cuda', rounds: number): void {
  it('the next turn of a chat begins where the last one ended', async () => {
    const engine = await openSums(where, 1e6);
    const first = await expectSums(engine, prompt(100, 1), 30);
    expect(first.cached).toBe(0);
    // The last token of an answer is never computed.
    const turn = [...prompt(100, 1), ...first.tokens, ...prompt(40, 2)];
    expect((await expectSums(engine, turn, 5)).cached).toBe(129);
    // So few new tokens that attention would add up otherwise: from a block's end before.
    const long = await expectSums(engine, prompt(70, 3), 130);
    const short = [...prompt(70, 3), ...long.tokens, 1, 2, 3];
    expect((await expectSums(engine, short, 5)).cached).toBe(128);
  });

  it('a prompt whose answer is told otherwise begins where the prompt ended, and a shared beginning serves the third', async () => {
    const engine = await openSums(where, 1e6);
    const base = prompt(400, 4);
    const [a, b, c, d] = [5, 6, 7, 8].map((seed) => [...base, ...prompt(150, seed)]) as number[][];
    expect((await expectSums(engine, a as number[], 4)).cached).toBe(0);
    expect((await expectSums(engine, [...(a as number[]), ...prompt(50, 9)], 4)).cached).toBe(512);
    expect((await expectSums(engine, b as number[], 4)).cached).toBe(0);
    expect((await expectSums(engine, c as number[], 4)).cached).toBe(384);
    expect((await expectSums(engine, d as number[], 4)).cached).toBe(384);
  });

  it('random conversations say what the sums say, and what is kept stays within its bound', async () => {
    // Room for about 40 blocks, of which a slot is a small part.
    const engine = await openSums(where, 40 * 64 * 16 * 2 * 4);
    let seed = 5;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const known: number[][] = [[]];
    let cached = 0;
    const turn = async (from: readonly number[], size: number, count: number) => {
      const ids = [...from, ...prompt(size, random(50))];
      const result = await expectSums(engine, ids, count);
      cached += result.cached;
      known.push([...ids, ...result.tokens]);
    };
    for (let i = 0; i < rounds; i++) {
      const turns = Array.from({ length: 1 + random(3) }, () => {
        const from = known[random(known.length)] as number[];
        return turn(
          from.slice(0, random(3) ? from.length : random(from.length + 1)),
          1 + random(200),
          1 + random(90),
        );
      });
      await Promise.all(turns);
      if (known.length > 12) known.splice(0, 6, []);
    }
    if (rounds > 10) expect(cached).toBeGreaterThan(500);
    await engine.reserve([]);
    expect(engine.cacheBlocks).toBeLessThanOrEqual(2 * 40 + 64);
  });
}

describe('recurrent states on the CPU', () => describeSums('cpu', 12));

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('recurrent states on an emulated GPU', () => {
  useEmulatedGpu();
  describeSums('cuda', 2);
});

describe('a pass that fails', () => {
  it('leaves no state behind that it may have changed', async () => {
    const engine = await openSums('cpu', 1e6);
    const ids = prompt(300, 1);
    const sequence = engine.open({ ids }, 0, 'grouped_mm');
    await engine.reserve([sequence]);
    const request = {
      head: 'logits',
      intermediates: false,
      experts: 'grouped_mm',
      kind: 'grouped_mm',
    } as const;
    const chunk = (tokens: number) => ({ ...request, chunks: [{ sequence, tokens }], wanted: () => true });
    await engine.run(chunk(256));
    const faulty = { ...chunk(44), candidates: VOCAB + 1 };
    await expect(engine.run(faulty)).rejects.toThrow();
    engine.close(sequence);
    // What was kept on the way is right: the pass before ended there.
    expect((await expectSums(engine, [...ids, ...prompt(60, 2)], 4)).cached).toBe(256);
  });
});

describe.each(['qwen3_next_g', 'qwen3_5_moe_text_i', 'qwen4_exp_k'])('%s', (name) => {
  const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] };
  let engine: Engine;
  let cached: CausalLM;
  let alone: CausalLM;
  beforeAll(async () => {
    const open = (options: object) =>
      loadModel(goldenModel(name), { dtype: 'float32', threads: 2, ...options }, 'logits');
    const parts = await open({});
    engine = parts.engine;
    cached = new CausalLM(parts);
    alone = new CausalLM(await open({ prefixCache: false }));
  });
  afterAll(() => Promise.all([cached.dispose(), alone.dispose()]));
  const expectSame = async (ids: readonly number[], more: object = {}) => {
    const options = { inputIds: [ids], maxNewTokens: 12, ...GREEDY, ...more };
    const [a, b] = [await cached.generate(options), await alone.generate(options)];
    expect(a.sequences).toEqual(b.sequences);
    return { ids: a.sequences[0] as number[], stats: a.stats };
  };

  it('answers the turns of a chat as it does without a cache, and computes only what is new', async () => {
    let ids = prompt(350, 1, cached.vocabSize);
    for (const turn of [1, 2, 3]) {
      const { ids: all, stats } = await expectSame(ids);
      if (turn > 1) expect(stats.promptTokens - stats.cachedTokens).toBe(41);
      ids = [...all, ...prompt(40, 10 + turn, cached.vocabSize)];
    }
  });

  it('goes on after guesses that were wrong', async () => {
    const ids = [...prompt(60, 5, cached.vocabSize), ...prompt(60, 5, cached.vocabSize)];
    const lookup = { promptLookupNumTokens: 4, maxNewTokens: 80 };
    const first = await expectSame(ids, lookup);
    expect(first.stats.drafts?.drafted).toBeGreaterThan(0);
    const next = await expectSame([...first.ids, ...prompt(45, 6, cached.vocabSize)], lookup);
    expect(next.stats.cachedTokens).toBeGreaterThanOrEqual(64);
  });

  it('gives the logits of the whole prompt, to 2e-5', async () => {
    const ids = prompt(330, 8, cached.vocabSize);
    const logits = async () => {
      const sequence = engine.open({ ids }, 0, 'grouped_mm');
      await engine.reserve([sequence]);
      const { cachedTokens } = sequence;
      let row: Float32Array | undefined;
      while (sequence.pending > 0) {
        const { outputs } = await engine.run({
          ...{ chunks: [{ sequence, tokens: cachedTokens > 0 ? sequence.due : sequence.pending }] },
          ...{ experts: 'grouped_mm', kind: 'grouped_mm', head: 'logits', intermediates: false },
          wanted: (_, place) => place === ids.length - 1,
        });
        row = outputs.logits?.data as Float32Array;
      }
      engine.close(sequence);
      return { cachedTokens, row: row as Float32Array };
    };
    const whole = await logits();
    expect(whole.cachedTokens).toBe(0);
    await expectSame(ids);
    const continued = await logits();
    expect(continued.cachedTokens).toBe(256);
    expect(maxDifference(continued.row, whole.row)).toBeLessThanOrEqual(2e-5);
  });
});
