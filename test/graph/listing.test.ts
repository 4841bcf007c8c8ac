/** The graph of every architecture and variant, as text: what a change does to a graph shows in the diff of `listings/`. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchitecture, MODEL_TYPES } from '../../src/auto/registry.ts';
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
/** With the rotary base of Qwen3-VL, whose decoder is the thinker's. */
const thinker = {
  ...vl,
  text_config: { ...vl.text_config, rope_theta: 5e5 },
  model_type: 'qwen3_omni_moe_thinker',
  audio_config: {
    ...{ num_mel_bins: 8, encoder_layers: 1, encoder_attention_heads: 2, encoder_ffn_dim: 12, d_model: 8 },
    ...{ n_window: 8, n_window_infer: 32, downsample_hidden_size: 4, output_dim: 16 },
  },
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

/** Less to list, where a variant does the same to every layer. */
const oneLayer = { num_hidden_layers: 1 };
const twoLayers = { num_hidden_layers: 2 };

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
  /** Names of tensors that are not stored. */
  readonly lacks?: RegExp;
  readonly variant?: object;
  /** The case whose listing this one's is, to the letter. */
  readonly as?: string;
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
  'qwen2_moe in bfloat16': { config: { ...qwen2, ...oneLayer }, variant: { dtype: 'bfloat16' } },
  'qwen2_moe with a cache of another type': {
    config: { ...qwen2, ...oneLayer },
    variant: { cacheDtype: 'float16' },
  },
  'qwen2_moe activations in int8': {
    config: { ...qwen2, ...oneLayer },
    variant: { dtype: 'bfloat16', int8Activations: true },
  },
  qwen2: { config: { ...text, model_type: 'qwen2' } },
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
  qwen3: { config: { ...text, model_type: 'qwen3' } },
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
  qwen3_omni_moe_thinker: { config: thinker, layout: 'fused_transposed', as: 'qwen3_vl_moe' },
  qwen3_omni_moe: {
    config: { model_type: 'qwen3_omni_moe', thinker_config: thinker },
    layout: 'fused_transposed',
    as: 'qwen3_vl_moe',
  },
  'qwen3_omni_moe_thinker visual': {
    config: thinker,
    layout: 'fused_transposed',
    variant: { visual: true },
    as: 'qwen3_vl_moe visual',
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
  'qwen3_5_moe_text routing': {
    config: { ...qwen35Text, ...twoLayers },
    layout: 'fused',
    variant: { routing: true },
  },
  qwen3_5_moe: { config: qwen35, layout: 'fused' },
  qwen3_5_text: { config: { ...hybrid, ...twoLayers, model_type: 'qwen3_5_text' } },
  'qwen3_5_text on a gpu': {
    config: { ...hybrid, ...twoLayers, model_type: 'qwen3_5_text' },
    variant: { device: 'cuda', dtype: 'bfloat16' },
  },
  qwen3_5: { config: { ...qwen35, model_type: 'qwen3_5' } },
  'qwen3_5 visual': { config: { ...qwen35, model_type: 'qwen3_5' }, variant: { visual: true } },
  qwen4_exp_text: { config: qwen4Text, layout: 'fused' },
  'qwen4_exp_text hidden states with intermediates': {
    config: qwen4Text,
    layout: 'fused',
    variant: { head: 'last_hidden_state', intermediates: true },
  },
  'qwen4_exp_text on a gpu with its table in shards': {
    config: { ...qwen4Text, ...twoLayers },
    layout: 'fused',
    lacks: /ngram_embedding\.weight$/,
    variant: { device: 'cuda', dtype: 'bfloat16' },
  },
  'qwen4_exp visual': { config: qwen4, layout: 'fused', variant: { visual: true } },
  'qwen3_5_moe visual': { config: qwen35, layout: 'fused', variant: { visual: true } },
};

const EXPERTS = [3, 16, 12] as const;
const TOWER_DTYPES = ['float32', 'bfloat16'] as const;
const LISTINGS = join(import.meta.dirname, 'listings');

describe('the decoder graph', () => {
  beforeAll(() => ExpertsInterface.register('all_experts', denseExperts));
  afterAll(() => ExpertsInterface.unregister('all_experts'));

  it.each(Object.entries(CASES))('%s', async (name, { config, layout = 'separate', lacks, variant, as }) => {
    const model = findArchitecture(config, 'config.json').parse(config, 'config.json');
    const weights = new AnyWeights(layout, EXPERTS, lacks);
    const graph = new Graph(weights);
    const { experts, ...options } = { ...plain, ...variant };
    const backend = ExpertsInterface.get(experts);
    model.build(graph, { cacheDtype: options.dtype, ...options, experts: backend });
    await expectListing(as ?? name, weights.named(graph.listing()));
  });

  it.each(MODEL_TYPES)('of %s has a listing', (modelType) => {
    const types = Object.values(CASES).map(({ config }) => (config as { model_type: string }).model_type);
    expect(types).toContain(modelType);
  });
});

describe('the vision tower', () => {
  it.each(TOWER_DTYPES)('in %s', async (dtype) => {
    const model = findArchitecture(vl, 'config.json').parse(vl, 'config.json');
    const weights = new AnyWeights('separate', EXPERTS);
    const graph = new Graph(weights);
    model.media?.buildTower(graph, { device: 'cpu', dtype });
    await expectListing(`qwen3_vl_moe tower ${dtype}`, weights.named(graph.listing()));
  });
});

describe('the audio tower', () => {
  it.each(TOWER_DTYPES)('in %s', async (dtype) => {
    const model = findArchitecture(thinker, 'config.json').parse(thinker, 'config.json');
    const weights = new AnyWeights('separate', EXPERTS);
    const graph = new Graph(weights);
    model.media?.sound?.buildTower(graph, { device: 'cpu', dtype });
    await expectListing(`qwen3_omni_moe audio tower ${dtype}`, weights.named(graph.listing()));
  });
});

it('no listing is of a case that is no more', () => {
  const towers = ['qwen3_vl_moe tower', 'qwen3_omni_moe audio tower'];
  const known = [
    ...Object.entries(CASES).map(([name, { as }]) => as ?? name),
    ...towers.flatMap((tower) => TOWER_DTYPES.map((dtype) => `${tower} ${dtype}`)),
  ];
  const files = known.map(fileOf);
  expect(readdirSync(LISTINGS).filter((file) => !files.includes(file))).toEqual([]);
});

/** The file of a listing by its name. */
function fileOf(name: string): string {
  return `${name.replaceAll(/[ ,]+/g, '-')}.txt`;
}

function expectListing(name: string, listing: string): Promise<void> {
  return expect(`${listing}\n`).toMatchFileSnapshot(join(LISTINGS, fileOf(name)));
}
