import { z } from 'zod';
import { count, fieldError, layerCount, layerList, shortList, size, tokenId, width } from '../config.ts';
import { type HybridConfig, hybridFields, parseHybrid } from '../hybrid-config.ts';
import { parseSeeing, type Config as SeeingConfig } from '../qwen3_5_moe/config.ts';

/** Far above real models, which have 4 streams, n-grams of 3, 4 taps and 8 heads. */
const few = size.max(16);
const heads = size.max(64);
/** Heads of n-grams in all memories; each has a prime that is searched for before weights are seen. Real models have 16 in a memory. */
const MOST_NGRAM_HEADS = 1024;
/** Of a power of two, so that blocks of the cache are made of whole blocks of the index. */
const ratios = [1, 2, 4, 8, 16, 32, 64];

/** HF `Qwen4ExpTextConfig`. */
const schema = z
  .object({
    ...hybridFields,
    vocab_size: size.default(248320),
    num_hidden_layers: layerCount.default(40),
    // No layer is dense.
    intermediate_size: width.default(1),
    num_experts: hybridFields.num_experts.min(1).default(512),
    num_experts_per_tok: size.default(10),
    norm_topk_prob: z.boolean().default(true),
    output_gate_type: z.enum(['silu', 'swish', 'sigmoid']).default('silu'),
    hc_count: few.min(2).default(4),
    hc_lowrank: width.default(320),
    indexer_n_heads: heads,
    indexer_kv_heads: z.literal(1).default(1),
    indexer_head_dim: size.max(1024),
    indexer_budget: size,
    indexer_compress_ratio: z.literal(ratios),
    ple_layer_ids: layerList(size).default([]),
    ple_embed_dim: width.optional(),
    ple_conv_kernel_size: few.default(4),
    ngram_size: few.min(2).default(3),
    heads_per_ngram: heads.default(8),
    ngram_vocab_size_base: size.max(2 ** 30).default(20_000_000),
    make_ngram_vocab_size_divisible_by: size.default(128),
    split_ngram_parts: size.max(65_536).default(512),
    seed: count.default(1234),
    eos_token_id: z.union([tokenId, shortList(tokenId, 1024)]).optional(),
  })
  .transform((fields) => ({
    ...fields,
    // The same layers by two names.
    ...(fields.layer_types && {
      layer_types: fields.layer_types.map((type) => (type === 'indexed_attention' ? 'full_attention' : type)),
    }),
    mlp_only_layers: [],
    decoder_sparse_step: 1,
    ple_embed_dim: fields.ple_embed_dim ?? fields.hidden_size,
    // Layers before which the memory is read, from 0, ascending.
    memoryLayers: [...new Set(fields.ple_layer_ids)].map((id) => id - 1).sort((a, b) => a - b),
    endId: Array.isArray(fields.eos_token_id) ? (fields.eos_token_id[0] ?? -1) : (fields.eos_token_id ?? -1),
  }));

export type TextConfig = HybridConfig<z.output<typeof schema>>;
export type Config = SeeingConfig<TextConfig>;

/** The config of a decoder by itself. @throws ConfigError naming file, field and value */
export function parseTextConfig(json: unknown, file: string, path?: string): TextConfig {
  const config = parseHybrid(schema, json, file, { theta: 1e4, ...(path === undefined ? {} : { path }) });
  const fail = (field: string, value: unknown, wanted: string) =>
    fieldError(file, path === undefined ? field : `${path}.${field}`, value, wanted);
  checkIndex(config, fail);
  if (config.memoryLayers.length > 0) checkMemory(config, fail);
  return config;
}

/** @throws ConfigError naming file, field and value */
export function parseQwen4(json: unknown, file: string): Config {
  return parseSeeing(json, file, (text, path) => parseTextConfig(text, file, path));
}

type Fail = (field: string, value: unknown, wanted: string) => Error;

function checkIndex({ rope, ...config }: TextConfig, fail: Fail): void {
  const { indexer_budget: budget, indexer_compress_ratio: ratio, indexer_head_dim: dim } = config;
  if (budget % ratio !== 0)
    throw fail('indexer_budget', budget, `a multiple of indexer_compress_ratio (${ratio})`);
  const rotated = 2 * rope.inverseFrequencies.length;
  if (rotated > dim)
    throw fail('indexer_head_dim', dim, `at least the ${rotated} dimensions that are rotated`);
}

function checkMemory(config: TextConfig, fail: Fail): void {
  const { memoryLayers, isLinear, ple_embed_dim: width, ngram_size, heads_per_ngram } = config;
  const heads = (ngram_size - 1) * heads_per_ngram;
  if (heads * memoryLayers.length > MOST_NGRAM_HEADS)
    throw fail(
      'heads_per_ngram',
      heads_per_ngram,
      `at most ${MOST_NGRAM_HEADS} heads in all: (ngram_size - 1) · heads_per_ngram in ${memoryLayers.length} layers`,
    );
  if (width % heads !== 0)
    throw fail('ple_embed_dim', width, `a multiple of (ngram_size - 1) · heads_per_ngram (${heads})`);
  for (const layer of memoryLayers)
    if (!isLinear[layer])
      throw fail('ple_layer_ids', config.ple_layer_ids, 'numbers from 1 on of layers of linear attention');
  if (config.endId < 0)
    throw fail(
      'eos_token_id',
      config.eos_token_id,
      'the id that ends a text, which n-grams do not reach over',
    );
}
