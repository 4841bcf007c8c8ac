import { z } from 'zod';
import { type DeclaredDtype, DTYPES, torchDtype } from '../dtype.ts';
import { ConfigError, expected, issuesText } from '../errors.ts';

/** Largest size a config may name; far above any real model, and safe to multiply in a double. */
const MAX_SIZE = 2 ** 31 - 1;
/** Most layers, of a decoder or a vision tower: what is kept of each takes memory before weights are seen. Real models stay below 200. */
const MAX_LAYERS = 2048;
/** Most features of a token between matrices: a pass holds those of all its tokens. Real models stay below 60,000. */
export const MAX_WIDTH = 2 ** 18;
/** Largest head; every dimension has a frequency that is worked out before weights are seen. Real heads stay below 600. */
export const MAX_HEAD_DIM = 16384;

export const size = z.int().positive().max(MAX_SIZE);
export const count = z.int().nonnegative().max(MAX_SIZE);
export const width = size.max(MAX_WIDTH);
export const layerCount = size.max(MAX_LAYERS);
/** Experts of a layer, whose tensors are asked for one by one. Real models stay below 1,000. */
export const expertCount = count.max(8192);
/** A list about layers, such as of their kinds. Its length is looked at before its entries are. */
export const layerList = <T extends z.ZodType>(entry: T) => shortList(entry, MAX_LAYERS);
export const tokenId = z.int().nonnegative().max(MAX_SIZE);

/** A list of few entries: where it is longer, none of them is looked at. */
export function shortList<T extends z.ZodType>(entry: T, most: number) {
  const isShort = (value: unknown) => Array.isArray(value) && value.length <= most;
  return z.custom<unknown[]>(isShort, `expected a list of at most ${most} entries`).pipe(z.array(entry));
}

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
    throw fieldError(file, path || 'the file', json, 'an object of settings');
  const result = schema.safeParse(withoutNulls(json as Record<string, unknown>));
  if (result.success) return result.data;
  throw new ConfigError(`${file}: ${issuesText(result.error.issues, json, path)}`);
}

/** Fields without which there is no model: a null there is a fault of the file, and no call for a default. */
const NEVER_NULL = new Set([
  ...['vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads', 'intermediate_size'],
  ...[
    'num_key_value_heads',
    'moe_intermediate_size',
    'shared_expert_intermediate_size',
    'num_experts',
    'num_experts_per_tok',
  ],
  ...['max_position_embeddings', 'rms_norm_eps', 'hidden_act', 'decoder_sparse_step', 'depth', 'num_heads'],
  ...[
    'patch_size',
    'out_hidden_size',
    'spatial_merge_size',
    'temporal_patch_size',
    'num_position_embeddings',
  ],
]);

/** In config files null means "not given", except for sizes, and for the window, where it means "no window". */
function withoutNulls(json: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(json).filter(
      ([key, value]) => value !== null || key === 'sliding_window' || NEVER_NULL.has(key),
    ),
  );
}

/** A config error about one field. */
export function fieldError(file: string, field: string, value: unknown, wanted: string): ConfigError {
  return new ConfigError(expected(`${file}: ${field}`, value, wanted));
}

/**
 * The declared precision; `dtype` is the newer name of `torch_dtype`. Nothing is refused here, as callers may choose another.
 * @param path prefix of field names, such as `text_config.`
 */
export function declaredDtype(
  config: { dtype?: unknown; torch_dtype?: unknown },
  file: string,
  path = '',
): DeclaredDtype {
  const field = (config.dtype ?? null) === null ? 'torch_dtype' : 'dtype';
  const value = config[field] ?? undefined;
  if (value === undefined || value === 'auto') return { dtype: undefined };
  const dtype = typeof value === 'string' ? torchDtype(value) : undefined;
  if (dtype !== undefined) return { dtype };
  return {
    dtype: undefined,
    fault: expected(`${file}: ${path}${field}`, value, `one of ${DTYPES.join(', ')}`),
  };
}

/** What a sub-config declares, else what the level above does. */
export function declaredIn(inner: DeclaredDtype, outer: DeclaredDtype): DeclaredDtype {
  return inner.dtype !== undefined || inner.fault !== undefined ? inner : outer;
}

/** Copies `from` to `to` where only `from` is given: older and newer names of one field. */
export function alias(json: unknown, from: string, to: string): unknown {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return json;
  const fields = json as Record<string, unknown>;
  if (fields[from] === undefined || fields[from] === null || (fields[to] ?? null) !== null) return json;
  const { [from]: value, ...rest } = fields;
  return { ...rest, [to]: value };
}
