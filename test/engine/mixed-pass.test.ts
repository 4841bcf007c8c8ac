/** One pass over prompt chunks and decoding rows gives what each of them gives alone. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Chunk } from '../../src/engine/batch.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { Sequence } from '../../src/engine/sequence.ts';
import type { ModelParts } from '../../src/model/model-parts.ts';
import { goldenModel } from '../helpers/goldens.ts';

/**
 * Attention gives the same bits whatever else is in the pass. Matrix products add in another order for one row than for several: that
 * changes logits of a size about 5 by up to 7e-6 in float32; in bfloat16 by nothing with AVX512_BF16 and by 5e-7 without.
 */
const TOLERANCE = { float32: 2e-5, bfloat16: 2e-6 } as const;
const BACKENDS = ['grouped_mm', 'batched_mm', 'eager'] as const;

describe.each([
  ['qwen3_moe_c', 'float32'],
  ['qwen2_moe_window', 'float32'],
  ['qwen3_moe_c', 'bfloat16'],
  ['qwen4_exp_k', 'float32'],
] as const)('%s in %s', (name, dtype) => {
  let parts: ModelParts;
  let engine: Engine;
  beforeAll(async () => {
    parts = await loadModel(goldenModel(name), { dtype, threads: 2 }, 'logits');
    engine = parts.engine;
  });
  afterAll(() => parts.release());

  const ids = (count: number, seed: number) =>
    Array.from({ length: count }, (_, i) => (seed * 31 + i * 7) % engine.model.vocabSize);

  /** Logits of every token that a pass over these chunks computes, chunk after chunk. */
  const run = async (chunks: readonly Chunk[], experts: string): Promise<Float32Array> => {
    const { outputs } = await engine.run({
      ...{ chunks, experts, kind: experts, head: 'logits', intermediates: false },
      wanted: () => true,
    });
    return outputs.logits?.data as Float32Array;
  };
  /** A sequence of which `computed` tokens have been computed before. */
  const open = async (tokens: readonly number[], computed: number, experts: string): Promise<Sequence> => {
    const sequence = engine.open({ ids: tokens });
    if (computed > 0) await run([{ sequence, tokens: computed }], experts);
    return sequence;
  };

  it.each(BACKENDS)('%s: two prompt chunks beside three decoding rows', async (experts) => {
    // A chunk that begins a prompt, one in the midst of another and across a block's border, and rows of different length.
    const rows = [
      { tokens: ids(37, 1), computed: 0 },
      { tokens: ids(90, 2), computed: 41 },
      { tokens: ids(6, 3), computed: 5 },
      { tokens: ids(65, 4), computed: 64 },
      { tokens: ids(130, 5), computed: 129 },
    ];
    const chunksOf = async () =>
      Promise.all(
        rows.map(async ({ tokens, computed }) => ({
          sequence: await open(tokens, computed, experts),
          tokens: tokens.length - computed,
        })),
      );
    const alone: Float32Array[] = [];
    for (const chunk of await chunksOf()) alone.push(await run([chunk], experts));
    const together = await run(await chunksOf(), experts);
    const { vocabSize } = engine.model;
    let first = 0;
    for (const [row, logits] of alone.entries()) {
      const difference = logits.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (together[first + i] as number))),
        0,
      );
      expect(difference, `row ${row}`).toBeLessThanOrEqual(TOLERANCE[dtype]);
      first += logits.length;
    }
    expect(first).toBe((37 + 49 + 3) * vocabSize);
  });
});
