/** The graph of every architecture and variant, as text: what a change does to a graph shows in the diff of `listings/`. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import { ExpertsInterface } from '../../src/experts/registry.ts';
import { Graph } from '../../src/graph/graph.ts';
import { denseExperts } from '../conformance/dense-backend.ts';
import { AnyWeights, type Layout } from './any-weights.ts';

const text = {
  vocab_size: 96,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  intermediate_size: 24,
  moe_intermediate_size: 12,
  num_experts: 3,
  num_experts_per_tok: 2,
  max_position_embeddings: 64,
};
const qwen2 = { ...text, model_type: 'qwen2_moe', shared_expert_intermediate_size: 20 };
const qwen3 = { ...text, model_type: 'qwen3_moe', norm_topk_prob: true };
const vision = {
  depth: 2,
  hidden_size: 32,
  intermediate_size: 40,
  num_heads: 2,
  patch_size: 4,
  out_hidden_size: 16,
  num_position_embeddings: 16,
  deepstack_visual_indexes: [0],
};
const vl = {
  model_type: 'qwen3_vl_moe',
  text_config: { ...text, rope_scaling: { mrope_section: [2, 1, 1] } },
  vision_config: vision,
};

const hybrid = {
  ...text,
  num_hidden_layers: 3,
  full_attention_interval: 2,
  linear_num_key_heads: 2,
  linear_num_value_heads: 4,
  linear_key_head_dim: 6,
  linear_value_head_dim: 5,
  linear_conv_kernel_dim: 3,
  shared_expert_intermediate_size: 20,
  partial_rotary_factor: 0.5,
};
const next = { ...hybrid, model_type: 'qwen3_next' };
const qwen35Text = { ...hybrid, model_type: 'qwen3_5_moe_text' };
const qwen35 = {
  model_type: 'qwen3_5_moe',
  text_config: { ...hybrid, num_hidden_layers: 2, rope_parameters: { mrope_section: [1, 1, 1] } },
  vision_config: { ...vision, deepstack_visual_indexes: [] },
};

const qwen4Text = {
  ...hybrid,
  model_type: 'qwen4_exp_text',
  hc_count: 2,
  hc_lowrank: 6,
  indexer_n_heads: 3,
  indexer_head_dim: 8,
  indexer_budget: 8,
  indexer_compress_ratio: 4,
  output_gate_type: 'sigmoid',
  ple_layer_ids: [1],
  ngram_size: 3,
  heads_per_ngram: 2,
  ngram_vocab_size_base: 11,
  make_ngram_vocab_size_divisible_by: 8,
  split_ngram_parts: 3,
  eos_token_id: 5,
};
const qwen4 = {
  model_type: 'qwen4_exp',
  text_config: { ...qwen4Text, rope_parameters: { mrope_section: [1, 1, 1] } },
  vision_config: { ...vision, deepstack_visual_indexes: [] },
};

const plain = {
  device: 'cpu',
  dtype: 'float32',
  experts: 'grouped_mm',
  head: 'logits',
  intermediates: false,
  visual: false,
} as const;

interface Case {
  readonly config: object;
  readonly layout?: Layout;
  readonly variant?: object;
}

const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 16 };
const CASES: Readonly<Record<string, Case>> = {
  qwen2_moe: { config: qwen2 },
  'qwen2_moe hidden states': { config: qwen2, variant: { head: 'last_hidden_state' } },
  'qwen2_moe routing': { config: qwen2, variant: { routing: true } },
  'qwen2_moe intermediates': { config: qwen2, variant: { intermediates: true } },
  'qwen2_moe on a gpu': { config: qwen2, variant: { device: 'cuda', dtype: 'bfloat16' } },
  'qwen2_moe dense and windowed layers': {
    config: {
      ...qwen2,
      num_hidden_layers: 3,
      mlp_only_layers: [1],
      use_sliding_window: true,
      sliding_window: 7,
    },
  },
  'qwen2_moe tied without bias': { config: { ...qwen2, tie_word_embeddings: true, qkv_bias: false } },
  qwen3_moe: { config: qwen3 },
  'qwen3_moe hidden states with intermediates': {
    config: qwen3,
    variant: { head: 'last_hidden_state', intermediates: true },
  },
  'qwen3_moe intermediates': { config: qwen3, variant: { intermediates: true } },
  'qwen3_moe on a gpu': { config: qwen3, variant: { device: 'cuda', dtype: 'float16' } },
  'qwen3_moe fused experts': { config: qwen3, layout: 'fused' },
  'qwen3_moe fused transposed experts': { config: qwen3, layout: 'fused_transposed' },
  'qwen3_moe experts of another backend': { config: qwen3, variant: { experts: 'all_experts' } },
  'qwen3_moe with bias, yarn and a dense last layer': {
    config: { ...qwen3, attention_bias: true, rope_scaling: yarn, mlp_only_layers: [1] },
  },
  qwen3_vl_moe: { config: vl, layout: 'fused_transposed' },
  'qwen3_vl_moe visual': { config: vl, layout: 'fused_transposed', variant: { visual: true } },
  'qwen3_vl_moe visual intermediates': {
    config: vl,
    layout: 'fused_transposed',
    variant: { visual: true, intermediates: true },
  },
  'qwen3_vl_moe visual on a gpu': {
    config: vl,
    layout: 'fused_transposed',
    variant: { visual: true, device: 'cuda', dtype: 'bfloat16' },
  },
  'qwen3_vl_moe visual with deepstack to the last layer': {
    config: { ...vl, vision_config: { ...vision, deepstack_visual_indexes: [0, 1] } },
    layout: 'fused',
    variant: { visual: true },
  },
  qwen3_next: { config: next },
  'qwen3_next hidden states with intermediates': {
    config: next,
    variant: { head: 'last_hidden_state', intermediates: true },
  },
  'qwen3_next with bias, a dense layer and layer types': {
    config: {
      ...next,
      attention_bias: true,
      mlp_only_layers: [0],
      layer_types: ['full_attention', 'linear_attention', 'full_attention'],
    },
  },
  'qwen3_next on a gpu': { config: next, variant: { device: 'cuda', dtype: 'bfloat16' } },
  qwen3_5_moe_text: { config: qwen35Text, layout: 'fused' },
  qwen3_5_moe: { config: qwen35, layout: 'fused' },
  qwen4_exp_text: { config: qwen4Text, layout: 'fused' },
  'qwen4_exp_text hidden states with intermediates': {
    config: qwen4Text,
    layout: 'fused',
    variant: { head: 'last_hidden_state', intermediates: true },
  },
  'qwen4_exp visual': { config: qwen4, layout: 'fused', variant: { visual: true } },
  'qwen3_5_moe visual': { config: qwen35, layout: 'fused', variant: { visual: true } },
};

const EXPERTS = [3, 16, 12] as const;

describe('the decoder graph', () => {
  beforeAll(() => ExpertsInterface.register('all_experts', denseExperts));
  afterAll(() => ExpertsInterface.unregister('all_experts'));

  it.each(Object.entries(CASES))('%s', async (name, { config, layout = 'separate', variant }) => {
    const model = findArchitecture(config, 'config.json').parse(config, 'config.json');
    const weights = new AnyWeights(layout, EXPERTS);
    const graph = new Graph(weights);
    const { experts, ...options } = { ...plain, ...variant };
    model.build(graph, { ...options, cacheDtype: options.dtype, experts: ExpertsInterface.get(experts) });
    await expectListing(name, weights.named(graph.listing()));
  });
});

describe('the vision tower', () => {
  it.each(['float32', 'bfloat16'] as const)('in %s', async (dtype) => {
    const model = findArchitecture(vl, 'config.json').parse(vl, 'config.json');
    const weights = new AnyWeights('separate', EXPERTS);
    const graph = new Graph(weights);
    model.media?.buildTower(graph, { device: 'cpu', dtype });
    await expectListing(`qwen3_vl_moe tower ${dtype}`, weights.named(graph.listing()));
  });
});

describe('the audio tower', () => {
  it('in bfloat16', async () => {
    const audio_config = {
      ...{ num_mel_bins: 8, encoder_layers: 1, encoder_attention_heads: 2, encoder_ffn_dim: 12, d_model: 8 },
      ...{ n_window: 8, n_window_infer: 32, downsample_hidden_size: 4, output_dim: 16 },
    };
    const config = { ...vl, model_type: 'qwen3_omni_moe_thinker', audio_config };
    const model = findArchitecture(config, 'config.json').parse(config, 'config.json');
    const weights = new AnyWeights('separate', EXPERTS);
    const graph = new Graph(weights);
    model.media?.sound?.buildTower(graph, { device: 'cpu', dtype: 'bfloat16' });
    await expectListing('qwen3_omni_moe audio tower', weights.named(graph.listing()));
  });
});

function expectListing(name: string, listing: string): Promise<void> {
  const file = `${name.replaceAll(/[ ,]+/g, '-')}.txt`;
  return expect(`${listing}\n`).toMatchFileSnapshot(join(import.meta.dirname, 'listings', file));
}
