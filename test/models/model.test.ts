/** What a model says of itself; that its graph does as it says is in `test/graph/` and the goldens. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { matchWeights } from '../../src/auto/check-model.ts';
import { loadConfig } from '../../src/auto/load-config.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { AutoConfig } from '../../src/index.ts';
import type { Model } from '../../src/models/architecture.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { CheckpointWeights } from '../../src/weights/checkpoint-weights.ts';
import { goldenModel, HYBRID_MODELS, TEXT_MODELS } from '../helpers/goldens.ts';

const parse = (config: object): Model => findArchitecture(config, 'config.json').parse(config, 'config.json');

const small = {
  ...{ hidden_size: 16, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8 },
  ...{ num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 12, intermediate_size: 24 },
  ...{ vocab_size: 96, max_position_embeddings: 64 },
};

describe('what layers keep', () => {
  it('is keys and values of their own heads', () => {
    const { caches } = parse({ ...small, model_type: 'qwen3_moe' });
    expect(caches).toEqual(Array(4).fill({ kind: 'keys_values', kvHeads: 2, headDim: 8 }));
  });

  it('is told with the window of those that slide', () => {
    const window = { use_sliding_window: true, sliding_window: 7 };
    const windows = (config: object) =>
      parse(config).caches.map((spec) => (spec.kind === 'keys_values' ? spec.window : undefined));
    expect(windows({ ...small, ...window, model_type: 'qwen3_moe' })).toEqual([7, 7, 7, 7]);
    const below = { ...small, ...window, model_type: 'qwen2_moe', max_window_layers: 2 };
    expect(windows(below)).toEqual([7, undefined, undefined, undefined]);
    expect(windows({ ...below, use_sliding_window: false })).toEqual(Array(4).fill(undefined));
    expect(windows({ ...below, sliding_window: null })).toEqual(Array(4).fill(undefined));
  });
});

describe('routed experts', () => {
  it('are told by layer', () => {
    const config = { ...small, model_type: 'qwen2_moe', mlp_only_layers: [0], decoder_sparse_step: 1 };
    expect(parse(config).routed).toEqual({ layers: [1, 2, 3], count: 6, perToken: 2 });
    expect(parse({ ...config, decoder_sparse_step: 2 }).routed?.layers).toEqual([1, 3]);
  });

  it('are none where every layer is dense', () => {
    const { routed, expertsContexts } = parse({
      ...small,
      model_type: 'qwen3_moe',
      mlp_only_layers: [0, 1, 2, 3],
    });
    expect(routed).toBeUndefined();
    expect(expertsContexts({ info: () => undefined } as never, { device: 'cpu', dtype: 'float32' })).toEqual(
      [],
    );
  });

  it.each([
    ['qwen2_moe_a', 'separate'],
    ['qwen3_moe_c', 'separate'],
    ['qwen3_vl_moe_e', 'fused_transposed'],
    ['qwen3_vl_moe_e_resaved', 'fused'],
  ])('of %s are stored %s, and run where the graph does', async (name, layout) => {
    const repo = await resolveRepo(goldenModel(name), {});
    const { model } = await loadConfig(repo);
    const stored = new CheckpointWeights(await openCheckpoint(repo));
    const contexts = model.expertsContexts(stored, { device: 'cuda', dtype: 'float16' });
    expect(contexts).toHaveLength(model.routed?.layers.length ?? 0);
    for (const context of contexts) {
      expect(context).toMatchObject({ device: 'cuda', dtype: 'float16', layout });
      expect(context).toMatchObject({ numExperts: model.routed?.count, topK: model.routed?.perToken });
      expect(context.hiddenSize).toBe(model.hiddenSize);
    }
    // Asking is not asking for: what nobody built is still unexpected.
    expect(stored.report((tensor) => model.work.use(tensor)).unexpected).not.toEqual([]);
  });
});

describe('tied tables', () => {
  const tied = parse({ ...small, model_type: 'qwen3_moe', tie_word_embeddings: true });
  const missing = (...stored: string[]) => {
    const info = (name: string) =>
      ({ name, file: 'a file', offset: 0, byteLength: 0, dtype: 'BF16', shape: [96, 16] }) as const;
    const checkpoint = { files: [], tensors: new Map(stored.map((name) => [name, info(name)])) };
    return matchWeights(tied, checkpoint, 'logits').report.missing.filter((name) =>
      /embed_tokens|lm_head/.test(name),
    );
  };

  it('share whichever is stored', () => {
    expect(missing('model.embed_tokens.weight')).toEqual([]);
    expect(missing('lm_head.weight')).toEqual([]);
    expect(missing('lm_head.weight', 'model.embed_tokens.weight')).toEqual([]);
  });

  it('are missing by the name of the embedding where neither is', () => {
    expect(missing()).toEqual(['model.embed_tokens.weight']);
  });
});

describe('the use of tensors', () => {
  it.each([...TEXT_MODELS, ...HYBRID_MODELS, 'qwen3_vl_moe_e'])(
    'is known for every tensor of %s',
    async (name) => {
      const repo = await resolveRepo(goldenModel(name), {});
      const { model } = await loadConfig(repo);
      const { tensors } = await openCheckpoint(repo);
      const uses = [...tensors.keys()].map((tensor) => [tensor, model.work.use(tensor)] as const);
      expect(uses.filter(([, { part }]) => part === 'unknown').map(([tensor]) => tensor)).toEqual([]);
      expect(uses.filter(([, { isSurplusExpert }]) => isSurplusExpert)).toEqual([]);
      for (const [tensor, { part, layer, share }] of uses) {
        if (layer !== undefined) expect(layer, tensor).toBeLessThan(model.caches.length);
        const perToken = (model.routed?.perToken ?? 0) / (model.routed?.count ?? 1);
        const isRouted = /\.mlp\.experts\./.test(tensor);
        expect(share, tensor).toBe(part === 'unread' ? 0 : isRouted ? perToken : 1);
      }
    },
  );

  it('tells experts that the config does not count from those that it does', () => {
    const { work } = parse({ ...small, model_type: 'qwen3_moe' });
    const expert = (n: number) => work.use(`model.layers.1.mlp.experts.${n}.up_proj.weight`);
    expect([5, 6, 60].map((n) => expert(n).isSurplusExpert)).toEqual([false, true, true]);
    expect(work.use('model.layers.1.mlp.shared_expert.up_proj.weight').isSurplusExpert).toBe(false);
  });

  it('knows a buffer that everybody computes, and strangers', () => {
    const { work } = parse({ ...small, model_type: 'qwen2_moe' });
    expect(work.use('model.layers.0.self_attn.rotary_emb.inv_freq').part).toBe('unread');
    expect(work.use('model.visual.blocks.0.norm1.weight').part).toBe('unknown');
    expect(work.use('classifier.weight').part).toBe('unknown');
  });
});

describe('a model that sees', () => {
  const vl = parse({
    model_type: 'qwen3_vl_moe',
    text_config: { ...small, rope_scaling: { mrope_section: [2, 1, 1] } },
    vision_config: {
      ...{ depth: 2, hidden_size: 32, num_heads: 2, out_hidden_size: 16, patch_size: 4 },
      deepstack_visual_indexes: [0],
    },
  });

  it('has positions on three axes, and text models on one', () => {
    expect(vl.positionAxes).toBe(3);
    expect(parse({ ...small, model_type: 'qwen3_moe' }).positionAxes).toBe(1);
  });

  it('says how many tokens a picture stands for, and where they stand', () => {
    const { media } = vl;
    expect(media?.tokensOf([1, 4, 6])).toBe(6);
    const picture = [0, 1, 1, 1, 1, 1, 1, 0];
    const found = media?.positions(picture, { images: [[1, 4, 6]], videos: [] });
    expect(found?.positions.map((axis) => [...axis])).toEqual([
      [0, 1, 1, 1, 1, 1, 1, 4],
      [0, 1, 1, 1, 2, 2, 2, 4],
      [0, 1, 2, 3, 1, 2, 3, 4],
    ]);
    expect(found?.delta).toBe(5 - 8);
    expect(() => media?.positions([0, 1], { images: [[1, 4, 6]], videos: [] })).toThrow(
      /^1 image tokens in a row/,
    );
  });

  it('feeds its tower the patches of one picture', () => {
    const { media } = vl;
    const pixels = new Float32Array(24 * (media?.patchValues ?? 0));
    const feeds = media?.towerFeeds(pixels, [1, 4, 6]) ?? {};
    for (const [name, { data, dims }] of Object.entries(feeds))
      expect(data.length, name).toBe(dims.reduce((a, b) => a * b, 1));
    expect(feeds.pixel_values?.dims).toEqual([1, 24, 3 * 2 * 4 * 4]);
  });
});

describe('AutoConfig', () => {
  it('shows what is public of a config', async () => {
    const text = await AutoConfig.fromPretrained(goldenModel('qwen2_moe_b'));
    expect(text).toMatchObject({
      ...{ modelType: 'qwen2_moe', subConfigs: [], hasVision: false, dtype: 'float32' },
      ...{ vocabSize: 512, hiddenSize: 48, layers: 6, contextLength: 512 },
      experts: { layers: 2, count: 6, perToken: 2 },
    });
    expect(text.json.decoder_sparse_step).toBe(2);
    const seeing = await AutoConfig.fromPretrained(goldenModel('qwen3_vl_moe_e'));
    expect(seeing).toMatchObject({ hasVision: true, subConfigs: ['text_config', 'vision_config'] });
    const demo = await AutoConfig.fromPretrained(join(import.meta.dirname, '../../configs/demo-model'));
    expect(demo.experts).toBeDefined();
  });
});
