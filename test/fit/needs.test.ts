import { expect, test } from 'vitest';
import { expectedWeights } from '../../src/auto/expected-weights.ts';
import { modelNeeds } from '../../src/auto/model-needs.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import { cacheBytes, type Needs } from '../../src/fit/needs.ts';
import { judge } from '../../src/fit/verdict.ts';
import { countWeights } from '../../src/fit/weight-counts.ts';

const parse = (config: Record<string, unknown>) =>
  findArchitecture(config, 'config.json').parse(config, 'config.json');
const QWEN3_30B = {
  model_type: 'qwen3_moe',
  num_hidden_layers: 48,
  head_dim: 128,
  max_position_embeddings: 40960,
};
/** By the formulas of the architecture: an expert has three matrices of 2048 × 768. */
const EXPERT = 3 * 2048 * 768;
const ATTENTION = 2048 * 128 * (32 + 4 + 4 + 32);
const TABLE = 151936 * 2048;

test('weights are counted by what becomes of them, as stored and as a token reads them', () => {
  const model = parse(QWEN3_30B);
  const { stored, token, routed } = countWeights(expectedWeights(model), model.work);
  const others = 48 * (128 * 2048 + 2 * 2048 + 2 * 128) + 2048;
  expect(stored).toEqual({
    experts: 48 * 128 * EXPERT,
    attention: 48 * ATTENTION,
    head: TABLE,
    embedding: TABLE,
    other: others,
  });
  expect(token).toEqual({
    experts: 48 * 8 * EXPERT,
    attention: 48 * ATTENTION,
    head: TABLE,
    embedding: 0,
    other: others,
  });
  expect(routed).toBe(48 * 8 * EXPERT);
});

test('a head that is tied to the embedding has the table read', () => {
  const model = parse({ model_type: 'qwen3', num_hidden_layers: 2, tie_word_embeddings: true });
  const { stored, token } = countWeights(expectedWeights(model), model.work);
  expect(stored.head).toBe(0);
  expect(token.embedding).toBe(stored.embedding);
});

test('a plain model needs two bytes a weight, a rounded one what its scheme says', () => {
  const model = parse(QWEN3_30B);
  expect(modelNeeds(model, { isQuantized: false })).toMatchObject({
    weights: 2 * 30_532_122_624,
    positions: 4096,
    cache: 4096 * 48 * 2 * 4 * 128 * 2,
  });
  const rounded = modelNeeds(model, { isQuantized: false, quantization: 'int4' }) as Needs;
  const matrices = 48 * (128 * EXPERT + ATTENTION);
  const rest = 30_532_122_624 - matrices - TABLE;
  expect(rounded.weights).toBe(matrices * (4.5 / 8) + TABLE + 2 * rest);
});

test('of a quantized repo the size of its files tells what experts and attention take', () => {
  const model = parse(QWEN3_30B);
  const matrices = 48 * (128 * EXPERT + ATTENTION);
  const fileBytes = matrices * 0.52 + 2 * (30_532_122_624 - matrices);
  const needs = modelNeeds(model, { isQuantized: true, fileBytes }) as Needs;
  expect(needs.weights).toBeCloseTo(fileBytes, -2);
  expect(needs.routedToken).toBeCloseTo(48 * 8 * EXPERT * 0.52, -2);
  expect(modelNeeds(model, { isQuantized: true })).toBeUndefined();
});

test('recurrent states do not grow with the context', () => {
  const model = parse({ model_type: 'qwen3_next', max_position_embeddings: 262144 });
  const grown = cacheBytes(model, 2000, 'bfloat16') - cacheBytes(model, 1000, 'bfloat16');
  // 12 of 48 layers keep 2 heads of 256, keys and values.
  expect(grown).toBe(1000 * 12 * 2 * 2 * 256 * 2);
  const states = cacheBytes(model, 0, 'bfloat16');
  expect(states).toBe(36 * 4 * (32 * 128 * 128 + 3 * (2 * 16 * 128 + 32 * 128)));
});

test('a table of n-grams stays in its file, and the keys of a sparse index grow with the context', () => {
  const flash = {
    ...{ model_type: 'qwen4_exp_text', hidden_size: 2560, num_hidden_layers: 4, num_attention_heads: 24 },
    ...{ num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 640, eos_token_id: 1 },
    ...{ indexer_n_heads: 4, indexer_head_dim: 128, indexer_budget: 2048, indexer_compress_ratio: 4 },
  };
  const [with_, without] = [parse({ ...flash, ple_layer_ids: [2] }), parse(flash)];
  const counts = [with_, without].map((model) => countWeights(expectedWeights(model), model.work));
  const table = counts[0]?.tables as number;
  // 16 heads of 20 million rows of 160 values.
  expect(table / (16 * 20e6 * 160)).toBeCloseTo(1, 4);
  expect(counts[1]?.tables).toBe(0);
  const [large, small] = [with_, without].map(
    (model) => (modelNeeds(model, { isQuantized: false }) as Needs).weights,
  ) as [number, number];
  // What gates the memory's rows: keys for 4 streams, values, norms, taps.
  const gates = 2560 * 2560 * 5 + 4 * 2560 * (3 + 4);
  expect(large - small).toBe(2 * gates);
  expect(cacheBytes(with_, 1000, 'bfloat16') - cacheBytes(with_, 0, 'bfloat16')).toBe(
    1000 * (2 * 2 * 256 + 128) * 2,
  );
});

const NEEDS: Needs = {
  weights: 60e9,
  token: 6e9,
  routedToken: 4e9,
  routed: 56e9,
  cache: 1e9,
  positions: 4096,
  working: 1e9,
};

test('what fits is read from memory', () => {
  const verdict = judge(NEEDS, { memory: 62e9, memoryRate: 60e9 });
  expect(verdict).toMatchObject({ fits: true, fromDisk: 0 });
  expect(verdict.tokensPerSecond).toBeCloseTo((60 / 6) * 0.86, 5);
});

test('what every token reads stays in memory, and experts share the rest', () => {
  const half = judge(NEEDS, { memory: 2e9 + 2e9 + 28e9, memoryRate: 60e9, diskRate: 1e9 });
  expect(half).toMatchObject({ fits: false, fromDisk: 2e9 });
  expect(half.tokensPerSecond).toBeCloseTo(1 / (0.1 / 0.86 + 2), 5);
  expect(judge(NEEDS, { memory: 1e9 }).fromDisk).toBe(6e9);
  expect(judge(NEEDS, { memory: 32e9, memoryRate: 60e9 }).tokensPerSecond).toBeUndefined();
});

test('more memory never makes it slower', () => {
  let before = Number.POSITIVE_INFINITY;
  for (let memory = 0; memory <= 70e9; memory += 1e9) {
    const { fromDisk } = judge(NEEDS, { memory });
    expect(fromDisk).toBeLessThanOrEqual(before);
    before = fromDisk;
  }
  expect(before).toBe(0);
});
