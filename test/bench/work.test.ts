import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/auto/load-config.ts';
import {
  bytesPerDecodedToken,
  prefillFlops,
  storageOf,
  type WeightWork,
  weightWork,
} from '../../src/bench/work.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import type { TokenWork } from '../../src/models/architecture.ts';
import { tensorUse } from '../../src/models/tensor-use.ts';
import { readHeader } from '../../src/safetensors/header.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';

/** Tensors of a made-up decoder, in bf16. */
function tensors(shapes: Record<string, number[]>): TensorInfo[] {
  return Object.entries(shapes).map(([name, shape]) => {
    const byteLength = 2 * shape.reduce((a, b) => a * b, 1);
    return { name, shape, byteLength, file: '', offset: 0, dtype: 'BF16' };
  });
}

/** Two layers of two heads of three. */
const config: TokenWork = {
  attention: [12, 12],
  use: (name) =>
    tensorUse(
      name,
      { num_experts: 8, num_experts_per_tok: 2 },
      { prefix: 'model', towers: ['model.visual'] },
    ),
};

const layer = (prefix: string) => ({
  [`${prefix}.self_attn.q_proj.weight`]: [6, 4],
  [`${prefix}.self_attn.q_proj.bias`]: [6],
  [`${prefix}.self_attn.k_norm.weight`]: [3],
  [`${prefix}.self_attn.o_proj.weight`]: [4, 6],
  [`${prefix}.mlp.gate.weight`]: [8, 4],
  [`${prefix}.mlp.experts.gate_up_proj`]: [8, 4, 10],
  [`${prefix}.mlp.experts.down_proj`]: [8, 5, 4],
  [`${prefix}.mlp.shared_expert.up_proj.weight`]: [7, 4],
});
const shapes = {
  'model.embed_tokens.weight': [100, 4],
  'model.visual.blocks.layers.0.weight': [50, 50],
  ...layer('model.layers.0'),
  ...layer('model.layers.1'),
};
/** Weights of a layer behind attention that one token needs: a quarter of the experts. */
const REST = 4 * 6 + 8 * 4 + (8 * 4 * 10 + 8 * 5 * 4) / 4 + 7 * 4;

describe('a decoded token', () => {
  test('reads its k experts, all of the rest and the head, but not the embeddings or the vision tower', () => {
    const work = weightWork(tensors({ ...shapes, 'lm_head.weight': [100, 4] }), config);
    expect(bytesPerDecodedToken(work)).toBe(2 * (100 * 4 + 2 * (6 * 4 + 6 + 3 + REST)));
  });

  test('reads the embedding table as head where the two are tied', () => {
    const untied = weightWork(tensors({ ...shapes, 'lm_head.weight': [100, 4] }), config);
    expect(weightWork(tensors(shapes), config)).toEqual(untied);
  });
});

test('a prefill computes the end of the last layer and the head once, and the scores of a triangle', () => {
  const work = weightWork(tensors(shapes), config);
  const everywhere = 2 * 6 * 4 + REST;
  const once = REST + 100 * 4;
  const pairs = (5 * 6) / 2;
  expect(prefillFlops(5, work)).toBe(2 * (5 * everywhere + once) + pairs * 4 * 2 * 3 * 2);
});

describe('the demo model', () => {
  const folder = join(import.meta.dirname, '../../configs/demo-model');
  let work: WeightWork;
  beforeAll(async () => {
    const { model } = await loadConfig(await resolveRepo(folder, {}));
    const header = await readHeader(join(folder, 'model.safetensors'));
    work = weightWork(header.values(), model.work);
  });

  test('reads what its shapes say', () => {
    const [hidden, vocab, layers] = [128, 3072, 5];
    const attention = hidden * 32 * (4 + 2 + 2 + 4) + 2 * 32;
    const experts = 4 * 3 * hidden * 64;
    const layerWeights = attention + 16 * hidden + experts + 2 * hidden;
    expect(bytesPerDecodedToken(work)).toBe(2 * (layers * layerWeights + vocab * hidden));
  });
});

test('tells what weights are stored as, by bytes, and leaves out the smallest parts', () => {
  const weight = (storage: string, shape: number[], byteLength: number) => ({
    name: '',
    storage,
    shape,
    byteLength,
  });
  const weights = [weight('F32', [2], 8), weight('BF16', [10, 10], 200), weight('int4', [40, 20], 450)];
  expect(storageOf(weights)).toEqual({ kinds: ['int4', 'bfloat16', 'float32'], bits: (8 * 658) / 902 });
  expect(storageOf([...weights, weight('int8', [100, 100], 10_000)]).kinds).toEqual([
    'int8',
    'int4',
    'bfloat16',
  ]);
  expect(storageOf([])).toEqual({ kinds: [], bits: 0 });
});
