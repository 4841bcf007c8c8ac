/** Models with recurrent states go on from where these were kept, and nobody can tell. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';
import { describeSums, expectSums, openSums, prompt, VOCAB } from './hybrid-prefixes.ts';

describe('recurrent states', () => describeSums('cpu', 12));

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
