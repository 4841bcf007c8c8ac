import { z } from 'zod';
import { ConfigError, issueText, show } from '../errors.ts';
import { DTYPES, type DType } from '../graph/precision.ts';
import type { DecoderConfig } from '../nn/types.ts';

/** Largest size a config may name; far above any real model, and safe to multiply in a double. */
const MAX_SIZE = 2 ** 31 - 1;

export const size = z.int().positive().max(MAX_SIZE);
export const count = z.int().nonnegative().max(MAX_SIZE);
export const tokenId = z.int().nonnegative().max(MAX_SIZE);

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

/**
 * Validates `json` against `schema`.
 * @param file what to call the source in messages, such as `config.json`
 * @throws ConfigError naming every faulty field with its value
 */
export function parseConfig<S extends z.ZodType>(
  schema: S,
  json: unknown,
  file: string,
  path = '',
): z.output<S> {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConfigError(`${file}: ${path || 'the file'} is ${show(json)}, expected an object of settings`);
  const result = schema.safeParse(withoutNulls(json as Record<string, unknown>));
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => issueText(issue, json, path));
  throw new ConfigError(`${file}: ${faults.join('; ')}`);
}

/** In config files null means "not given", except for the window, where it means "no window". */
function withoutNulls(json: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(json).filter(([key, value]) => value !== null || key === 'sliding_window'),
  );
}

/** A config error about one field, in the wording `parseConfig` uses. */
export function fieldError(file: string, field: string, value: unknown, problem: string): ConfigError {
  return new ConfigError(`${file}: ${field} is ${show(value)}: ${problem}`);
}

type HeadFields = Pick<DecoderConfig, 'num_attention_heads' | 'num_key_value_heads' | 'hidden_size'>;

/** Checks the relations between fields that hold for every text decoder, and returns head_dim. */
export function checkText(
  config: HeadFields & { head_dim?: number | undefined; num_experts: number; num_experts_per_tok: number },
  file: string,
  path = '',
): number {
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
export function moeLayers(config: {
  num_hidden_layers: number;
  num_experts: number;
  decoder_sparse_step: number;
  mlp_only_layers: readonly number[];
}): boolean[] {
  return Array.from(
    { length: config.num_hidden_layers },
    (_, i) =>
      !config.mlp_only_layers.includes(i) &&
      config.num_experts > 0 &&
      (i + 1) % config.decoder_sparse_step === 0,
  );
}

/** The checkpoint's declared precision; `dtype` is the newer name of `torch_dtype`. */
export function declaredDtype(
  config: { dtype?: string | undefined; torch_dtype?: string | undefined },
  file: string,
): DType | undefined {
  const [field, value] =
    config.dtype === undefined ? ['torch_dtype', config.torch_dtype] : ['dtype', config.dtype];
  if (value === undefined) return undefined;
  const name = DTYPES.find((dtype) => dtype === value || `torch.${dtype}` === value);
  if (!name) throw fieldError(file, field as string, value, `expected one of ${DTYPES.join(', ')}`);
  return name;
}

/** Copies `from` to `to` where only `from` is given: older and newer names of one field. */
export function alias(json: unknown, from: string, to: string): unknown {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return json;
  const fields = json as Record<string, unknown>;
  if (fields[from] === undefined || fields[from] === null || (fields[to] ?? null) !== null) return json;
  const { [from]: value, ...rest } = fields;
  return { ...rest, [to]: value };
}
