import { z } from 'zod';
import type { DType } from '../dtype.ts';
import { computeRope, type Rope } from '../nn/rope.ts';
import { alias, count, declaredDtype, fieldError, parseConfig, size } from './config.ts';
import { parseRope } from './rope-config.ts';

/** Fields every Qwen MoE text config shares; class defaults of HF `Qwen2MoeConfig` and `Qwen3MoeConfig`. */
export const textFields = {
  vocab_size: size.default(151936),
  hidden_size: size.default(2048),
  num_hidden_layers: size.default(24),
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size.optional(),
  hidden_act: z.literal('silu').default('silu'),
  max_position_embeddings: size.default(32768),
  rms_norm_eps: z.number().positive().max(1).default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  intermediate_size: size,
  moe_intermediate_size: size,
  num_experts: count,
  num_experts_per_tok: size,
  norm_topk_prob: z.boolean().default(false),
  decoder_sparse_step: size.default(1),
  mlp_only_layers: z.array(count).default([]),
  use_sliding_window: z.boolean().default(false),
  sliding_window: size.nullable().default(4096),
  max_window_layers: count.default(28),
  rope_theta: z.number().positive().optional(),
  rope_scaling: z.record(z.string(), z.unknown()).optional(),
  rope_parameters: z.record(z.string(), z.unknown()).optional(),
  dtype: z.string().optional(),
  torch_dtype: z.string().optional(),
};

type Fields = z.output<z.ZodObject<typeof textFields>>;

/** A text config with what follows from it. */
export type TextConfig<F extends Fields = Fields> = F & {
  readonly head_dim: number;
  readonly rope: Rope;
  /** Per layer: MoE block (true) or dense MLP (false). */
  readonly isSparse: readonly boolean[];
  /** Precision the config declares, if any. */
  readonly declaredDtype: DType | undefined;
};

/**
 * Validates a text config and works out what follows from it.
 * @param path where it lies in the file, such as `text_config`
 * @throws ConfigError naming file, field and value
 */
export function parseText<F extends Fields>(
  schema: z.ZodType<F>,
  json: unknown,
  file: string,
  { theta, path = '' }: { theta: number; path?: string },
): TextConfig<F> {
  const fields = parseConfig(schema, alias(json, 'num_local_experts', 'num_experts'), file, path);
  const at = path === '' ? '' : `${path}.`;
  const head_dim = checkText(fields, file, at);
  return {
    ...fields,
    head_dim,
    rope: computeRope(parseRope(fields, theta, file, at), head_dim, fields.max_position_embeddings),
    isSparse: sparseLayers(fields),
    declaredDtype: declaredDtype(fields, file),
  };
}

/** Sliding window in positions, where the config uses one. */
export function slidingWindow({ use_sliding_window, sliding_window }: Fields): number | undefined {
  return use_sliding_window ? (sliding_window ?? undefined) : undefined;
}

/** Checks the relations between fields that hold for every text decoder, and returns head_dim. */
function checkText(config: Fields, file: string, path = ''): number {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, hidden_size: hidden } = config;
  if (heads % kvHeads !== 0)
    throw fieldError(
      file,
      `${path}num_key_value_heads`,
      kvHeads,
      `must divide num_attention_heads (${heads})`,
    );
  if (config.head_dim === undefined && hidden % heads !== 0)
    throw fieldError(
      file,
      `${path}num_attention_heads`,
      heads,
      `must divide hidden_size (${hidden}), or head_dim be given`,
    );
  const headDim = config.head_dim ?? hidden / heads;
  if (headDim % 2 !== 0)
    throw fieldError(file, `${path}head_dim`, headDim, 'must be even for rotary embeddings');
  if (config.num_experts > 0 && config.num_experts_per_tok > config.num_experts)
    throw fieldError(
      file,
      `${path}num_experts_per_tok`,
      config.num_experts_per_tok,
      `must not exceed num_experts (${config.num_experts})`,
    );
  return headDim;
}

/** Which layers hold a MoE block: HF `Qwen2MoeDecoderLayer.__init__`. */
function sparseLayers(config: Fields): boolean[] {
  return Array.from(
    { length: config.num_hidden_layers },
    (_, i) =>
      !config.mlp_only_layers.includes(i) &&
      config.num_experts > 0 &&
      (i + 1) % config.decoder_sparse_step === 0,
  );
}
