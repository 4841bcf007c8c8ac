/**
 * Models that are published on the Hub and run here, the most able first: what `switchyard models` chooses from. Sizes are computed
 * from these configs, in which fields that are as the defaults of transformers' classes are left out.
 */
import type { Quantization } from '../quantize/scheme.ts';
import { plainStorage, type Storage } from './weight-counts.ts';

export interface PublishedModel {
  /** The part of config.json that decides about sizes. */
  readonly config: Readonly<Record<string, unknown>>;
  /** What it is for, in a word or two. */
  readonly use: string;
  /** Ways to run it, the most exact first. */
  readonly ways: readonly PublishedWay[];
}

export interface PublishedWay {
  readonly repo: string;
  /** How the repo stores its weights. */
  readonly format: PublishedFormat;
  /** What they are rounded to at load. */
  readonly quantization?: Extract<Quantization, string>;
}

export type PublishedFormat = keyof typeof STORAGES;

const PLAIN = plainStorage('bfloat16');
/** Of 4-bit codes in groups of 128, each with a 16-bit scale and a 4-bit zero point. */
const GPTQ_BYTES = (4 + 20 / 128) / 8;

/** Bytes of a weight in the formats of Qwen's own repos. */
export const STORAGES = {
  bfloat16: PLAIN,
  // One fp32 scale for 128 × 128 weights, which is nothing.
  fp8: { ...PLAIN, experts: 1, attention: 1 },
  'gptq-int4': { ...PLAIN, experts: GPTQ_BYTES, attention: GPTQ_BYTES },
  'gptq-int4-experts': { ...PLAIN, experts: GPTQ_BYTES },
} as const satisfies Record<string, Storage>;

/** A repo in bfloat16, with what may be made of it at load, and others of the same model. */
function waysOf(repo: string, published: Readonly<Partial<Record<PublishedFormat, string>>>): PublishedWay[] {
  const other = (format: PublishedFormat): PublishedWay[] => {
    const name = published[format];
    return name === undefined ? [] : [{ repo: name, format }];
  };
  const fp8 = published.fp8;
  return [
    { repo, format: 'bfloat16' },
    ...other('fp8'),
    { repo, format: 'bfloat16', quantization: 'int8' },
    { repo, format: 'bfloat16', quantization: 'int4' },
    ...(fp8 === undefined ? [] : [{ repo: fp8, format: 'fp8', quantization: 'int4' } as const]),
    ...other('gptq-int4'),
    ...other('gptq-int4-experts'),
  ];
}

const QWEN3_30B = {
  model_type: 'qwen3_moe',
  num_hidden_layers: 48,
  head_dim: 128,
  max_position_embeddings: 262144,
};
const QWEN3_DENSE = { model_type: 'qwen3', head_dim: 128, max_position_embeddings: 40960 };

export const PUBLISHED_MODELS: readonly PublishedModel[] = [
  {
    config: {
      model_type: 'qwen3_5_moe',
      text_config: {
        ...{ hidden_size: 4096, num_hidden_layers: 60, num_attention_heads: 32, moe_intermediate_size: 1024 },
        ...{ shared_expert_intermediate_size: 1024, num_experts: 512, num_experts_per_tok: 10 },
        ...{ linear_num_value_heads: 64, max_position_embeddings: 262144 },
      },
      vision_config: { out_hidden_size: 4096 },
    },
    use: 'text, pictures, reasoning',
    ways: waysOf('Qwen/Qwen3.5-397B-A17B', { fp8: 'Qwen/Qwen3.5-397B-A17B-FP8' }),
  },
  {
    config: {
      ...QWEN3_30B,
      ...{ hidden_size: 4096, num_hidden_layers: 94, num_attention_heads: 64, moe_intermediate_size: 1536 },
    },
    use: 'text',
    ways: waysOf('Qwen/Qwen3-235B-A22B-Instruct-2507', {
      fp8: 'Qwen/Qwen3-235B-A22B-Instruct-2507-FP8',
      'gptq-int4': 'Qwen/Qwen3-235B-A22B-GPTQ-Int4',
    }),
  },
  {
    config: { model_type: 'qwen3_next', max_position_embeddings: 262144 },
    use: 'text',
    ways: waysOf('Qwen/Qwen3-Next-80B-A3B-Instruct', { fp8: 'Qwen/Qwen3-Next-80B-A3B-Instruct-FP8' }),
  },
  {
    config: { model_type: 'qwen3_next', max_position_embeddings: 262144 },
    use: 'code',
    ways: waysOf('Qwen/Qwen3-Coder-Next', { fp8: 'Qwen/Qwen3-Coder-Next-FP8' }),
  },
  {
    config: {
      model_type: 'qwen3_5_moe',
      text_config: { max_position_embeddings: 262144 },
      vision_config: { out_hidden_size: 2048 },
    },
    use: 'text, pictures, reasoning',
    ways: waysOf('Qwen/Qwen3.6-35B-A3B', {
      fp8: 'Qwen/Qwen3.6-35B-A3B-FP8',
      'gptq-int4-experts': 'Qwen/Qwen3.5-35B-A3B-GPTQ-Int4',
    }),
  },
  {
    config: QWEN3_30B,
    use: 'text',
    ways: waysOf('Qwen/Qwen3-30B-A3B-Instruct-2507', {
      fp8: 'Qwen/Qwen3-30B-A3B-Instruct-2507-FP8',
      'gptq-int4': 'Qwen/Qwen3-30B-A3B-GPTQ-Int4',
    }),
  },
  {
    config: QWEN3_30B,
    use: 'code',
    ways: waysOf('Qwen/Qwen3-Coder-30B-A3B-Instruct', { fp8: 'Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8' }),
  },
  {
    config: { ...QWEN3_DENSE, num_hidden_layers: 36, intermediate_size: 12288, num_key_value_heads: 8 },
    use: 'text, dense',
    ways: waysOf('Qwen/Qwen3-8B', { fp8: 'Qwen/Qwen3-8B-FP8' }),
  },
  {
    config: { model_type: 'qwen2_moe', max_position_embeddings: 8192 },
    use: 'text',
    ways: waysOf('Qwen/Qwen1.5-MoE-A2.7B-Chat', { 'gptq-int4': 'Qwen/Qwen1.5-MoE-A2.7B-Chat-GPTQ-Int4' }),
  },
  {
    config: {
      ...QWEN3_DENSE,
      ...{ hidden_size: 2560, num_hidden_layers: 36, intermediate_size: 9728, num_key_value_heads: 8 },
      ...{ tie_word_embeddings: true, max_position_embeddings: 262144 },
    },
    use: 'text, dense',
    ways: waysOf('Qwen/Qwen3-4B-Instruct-2507', { fp8: 'Qwen/Qwen3-4B-Instruct-2507-FP8' }),
  },
  {
    config: {
      ...QWEN3_DENSE,
      ...{ hidden_size: 1024, num_hidden_layers: 28, num_attention_heads: 16, intermediate_size: 3072 },
      ...{ num_key_value_heads: 8, tie_word_embeddings: true },
    },
    use: 'text, dense',
    ways: waysOf('Qwen/Qwen3-0.6B', { fp8: 'Qwen/Qwen3-0.6B-FP8' }),
  },
];
