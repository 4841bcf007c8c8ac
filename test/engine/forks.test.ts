/** Rows that go on from one another share what they have in common, and then know nothing of each other. */
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import { DecoderDecoding } from '../../src/engine/decoding.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { ModelParts } from '../../src/model/model-parts.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { openSummingEngine } from '../helpers/summing-engine.ts';
import { nextBySum } from '../helpers/summing-model.ts';

const EXPERTS = { requested: () => 'grouped_mm', choose: () => 'grouped_mm' };
const VOCAB = 97;
const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (seed + 5 * i) % VOCAB);

/**
 * Forks rows as beams do, and notes of each row what it was fed and what it says then.
 * @returns every row's tokens and the ids listed after them
 */
async function forkAndStep(engine: Engine, prompts: readonly number[][], parents: readonly number[][]) {
  const decoding = new DecoderDecoding(
    engine,
    prompts.map((ids) => ({ ids })),
    parents.length + 1,
    EXPERTS,
  );
  let rows = prompts.map((ids) => [...ids]);
  const seen: { tokens: number[]; next: number }[] = [];
  try {
    await decoding.prefill(1);
    for (const [step, chosen] of parents.entries()) {
      decoding.fork(chosen);
      rows = chosen.map((parent, i) => [...(rows[parent] as number[]), (7 * i + 3 * step) % VOCAB]);
      const { top } = await decoding.step(
        [...rows.keys()],
        rows.map((row) => [row.at(-1) as number]),
        1,
      );
      for (const [i, tokens] of rows.entries()) seen.push({ tokens, next: top.ids[i] as number });
    }
  } finally {
    decoding.dispose();
  }
  return seen;
}

const PARENTS = [[0, 0, 0], [2, 0, 2], [1, 1, 1, 0], [3, 3], [0], [0, 0, 0]];

describe.each([[['recurrent', 'keys_values']], [['keys_values']], [['recurrent']]] as const)(
  'forks of a model with %j',
  (kinds) => {
    const closing: (() => Promise<void>)[] = [];
    afterEach(async () => {
      for (const close of closing.splice(0)) await close();
    });

    it.each([3, 63, 64, 65, 130])('of rows of %i tokens', async (length) => {
      const { engine, close } = await openSummingEngine(VOCAB, kinds, 'cpu');
      closing.push(close);
      const seen = await forkAndStep(engine, [prompt(length, 1)], PARENTS);
      for (const { tokens, next } of seen) expect(next).toBe(nextBySum(tokens, VOCAB, kinds.length));
    });

    it('of several prompts', async () => {
      const { engine, close } = await openSummingEngine(VOCAB, kinds, 'cpu');
      closing.push(close);
      const seen = await forkAndStep(
        engine,
        [prompt(70, 1), prompt(5, 2)],
        [
          [1, 0, 0, 1],
          [0, 2],
          [1, 1],
        ],
      );
      for (const { tokens, next } of seen) expect(next).toBe(nextBySum(tokens, VOCAB, kinds.length));
    });
  },
);

describe('forks of a model with attention', () => {
  const opened: ModelParts[] = [];
  afterAll(async () => {
    for (const parts of opened) await parts.release();
  });

  it('say what rows of the same tokens say, and leave no block behind', async () => {
    const parts = await loadModel(
      goldenModel('qwen3_moe_c'),
      { dtype: 'float32', threads: 2, prefixCache: false },
      'logits',
    );
    opened.push(parts);
    const { engine } = parts;
    const seen = await forkAndStep(engine, [prompt(62, 3)], PARENTS);
    const blocks = engine.cacheBlocks;
    for (const { tokens, next } of seen) {
      const decoding = new DecoderDecoding(engine, [{ ids: tokens }], 1, EXPERTS);
      expect((await decoding.prefill(1)).top.ids[0]).toBe(next);
      decoding.dispose();
    }
    for (let round = 0; round < 3; round++) await forkAndStep(engine, [prompt(62, 3)], PARENTS);
    expect(engine.cacheBlocks).toBe(blocks);
  });
});
