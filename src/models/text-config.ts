import { z } from 'zod';
import type { DeclaredDtype } from '../dtype.ts';
import { computeRope, type Rope } from '../nn/rope-frequencies.ts';
import {
  alias,
  count,
  declaredDtype,
  expertCount,
  fieldError,
  layerCount,
  layerList,
  MAX_HEAD_DIM,
  MAX_WIDTH,
  parseConfig,
  size,
  width,
} from './config.ts';
import { parseRope, type RopeDictionary } from './rope-config.ts';

/** Fields every Qwen MoE text config shares; class defaults of HF `Qwen2MoeConfig` and `Qwen3MoeConfig`. */
export const textFields = {
  vocab_size: size.default(151936),
  hidden_size: width.default(2048),
  num_hidden_layers: layerCount.default(24),
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size.optional(),
  // Two names of one function.
  hidden_act: z.enum(['silu', 'swish']).default('silu'),
  max_position_embeddings: size.default(32768),
  rms_norm_eps: z.number().positive().max(1).default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  intermediate_size: width,
  moe_intermediate_size: width,
  num_experts: expertCount,
  num_experts_per_tok: size,
  norm_topk_prob: z.boolean().default(false),
  decoder_sparse_step: size.default(1),
  mlp_only_layers: layerList(count).default([]),
  use_sliding_window: z.boolean().default(false),
  sliding_window: z.unknown().optional(),
  max_window_layers: count.default(28),
  layer_types: layerList(z.string()).optional(),
  original_max_position_embeddings: size.optional(),
  partial_rotary_factor: z.number().positive().optional(),
  rope_theta: z.number().positive().optional(),
  rope_scaling: z.record(z.string(), z.unknown()).optional(),
  rope_parameters: z.record(z.string(), z.unknown()).optional(),
  dtype: z.unknown().optional(),
  torch_dtype: z.unknown().optional(),
};

type Fields = z.output<z.ZodObject<typeof textFields>>;

/** A config.json of a dense family as one of the same family with experts that has none. */
export function withoutExperts(json: unknown): unknown {
  const none = { num_experts: 0, num_experts_per_tok: 1, moe_intermediate_size: 1 };
  return { ...(json as Record<string, unknown>), ...none, mlp_only_layers: [], decoder_sparse_step: 1 };
}

/** Which layers of a dense family have a sliding window: HF `Qwen2Config.layer_types`. */
export function slidesBehind(
  n: number,
  { max_window_layers }: { readonly max_window_layers: number },
): boolean {
  return n >= max_window_layers;
}

/** A text config with what follows from it. */
export type TextConfig<F extends Fields = Fields> = F & {
  readonly head_dim: number;
  readonly rope: Rope;
  /** The rope settings as the file has them, for what else a family keeps there. */
  readonly ropeDictionary: RopeDictionary;
  /** Most positions of a sequence, with what the rope scaling adds. */
  readonly contextLength: number;
  /** Per layer: MoE block (true) or dense MLP (false). */
  readonly isSparse: readonly boolean[];
  /** Per layer: sliding window in positions; undefined where every position sees all before it. */
  readonly windows: readonly (number | undefined)[];
  readonly declaredDtype: DeclaredDtype;
};

export interface TextDefaults<F extends Fields> {
  /** Of the model's class. */
  readonly theta: number;
  /** Share of a head's dimensions that are rotated, of the model's class; without it, always all. */
  readonly partial?: number;
  /** Where the config lies in the file, such as `text_config`. */
  readonly path?: string;
  /** Values of `layer_types` besides those of attention. */
  readonly otherLayerTypes?: readonly string[];
  /** Which layers have a sliding window, where the config uses one and has no `layer_types`. Without it none ever has. */
  slides?(layer: number, fields: F): boolean;
}

/**
 * Validates a text config and works out what follows from it.
 * @throws ConfigError naming file, field and value
 */
export function parseText<F extends Fields>(
  schema: z.ZodType<F>,
  json: unknown,
  file: string,
  defaults: TextDefaults<F>,
): TextConfig<F> {
  const { theta, partial, path = '' } = defaults;
  const fields = parseConfig(schema, alias(json, 'num_local_experts', 'num_experts'), file, path);
  const at = path === '' ? '' : `${path}.`;
  const head_dim = checkText(fields, file, at);
  const isSliding = slidingLayers(fields, file, at, defaults);
  const window = isSliding.includes(true) ? windowSize(fields, file, at) : undefined;
  const kinds = [
    ...(isSliding.includes(false) || window === undefined ? [FULL] : []),
    ...(window === undefined ? [] : [SLIDING]),
  ];
  const place = {
    ...{ file, path: at, headDim: head_dim, defaultTheta: theta, defaultPartial: partial },
    layerTypes: kinds,
  };
  const { dictionary, parameters, rotaryDim, contextLength } = parseRope(fields, place);
  return {
    ...fields,
    head_dim,
    rope: computeRope(parameters, rotaryDim),
    ropeDictionary: dictionary,
    contextLength,
    isSparse: sparseLayers(fields),
    windows: isSliding.map((slides) => (slides ? window : undefined)),
    declaredDtype: declaredDtype(fields, file, at),
  };
}

const FULL = 'full_attention';
const SLIDING = 'sliding_attention';
/** Names of earlier versions. */
const RENAMED: Readonly<Record<string, string>> = { attention: FULL };

/** Which layers have a sliding window: those that `layer_types` names, else those of the family's rule. */
function slidingLayers<F extends Fields>(
  fields: F,
  file: string,
  path: string,
  { slides, otherLayerTypes = [] }: TextDefaults<F>,
): boolean[] {
  const { num_hidden_layers: layers, use_sliding_window: uses, layer_types: types } = fields;
  if (types === undefined)
    return Array.from({ length: layers }, (_, n) => uses && (slides?.(n, fields) ?? false));
  if (types.length !== layers)
    throw fieldError(file, `${path}layer_types`, types, `${layers} entries, as num_hidden_layers says`);
  const others = otherLayerTypes.length > 0 ? otherLayerTypes : [SLIDING];
  return types.map((type, n) => {
    const known = RENAMED[type] ?? type;
    if (otherLayerTypes.includes(known)) return false;
    if (known !== FULL && known !== SLIDING)
      throw fieldError(file, `${path}layer_types.${n}`, type, [FULL, ...others].join(' or '));
    if (known === SLIDING && !(uses && slides))
      throw fieldError(
        file,
        `${path}layer_types.${n}`,
        type,
        slides ? `${FULL}, as use_sliding_window is false` : `${FULL}; this model has no sliding window`,
      );
    return known === SLIDING;
  });
}

/** The window that some layers have; null means that they see everything after all. */
function windowSize(
  { sliding_window: given = 4096 }: Fields,
  file: string,
  path: string,
): number | undefined {
  if (given === null) return undefined;
  const { success, data } = size.safeParse(given);
  if (success) return data;
  throw fieldError(file, `${path}sliding_window`, given, 'a whole number above 0, or null');
}

/** Checks the relations between fields that hold for every text decoder, and returns head_dim. */
function checkText(config: Fields, file: string, path = ''): number {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, hidden_size: hidden } = config;
  if (heads % kvHeads !== 0)
    throw fieldError(
      file,
      `${path}num_key_value_heads`,
      kvHeads,
      `a divisor of num_attention_heads (${heads})`,
    );
  if (config.head_dim === undefined && hidden % heads !== 0)
    throw fieldError(
      file,
      `${path}num_attention_heads`,
      heads,
      `a divisor of hidden_size (${hidden}), or a head_dim beside it`,
    );
  const headDim = config.head_dim ?? hidden / heads;
  if (headDim % 2 !== 0 || headDim > MAX_HEAD_DIM)
    throw fieldError(file, `${path}head_dim`, headDim, `an even number, at most ${MAX_HEAD_DIM}`);
  if (heads * headDim > MAX_WIDTH)
    throw fieldError(
      file,
      `${path}num_attention_heads`,
      heads,
      `at most ${MAX_WIDTH} / head_dim (${headDim})`,
    );
  if (config.num_experts > 0 && config.num_experts_per_tok > config.num_experts)
    throw fieldError(
      file,
      `${path}num_experts_per_tok`,
      config.num_experts_per_tok,
      `at most num_experts (${config.num_experts})`,
    );
  return headDim;
}

/** Which layers hold a MoE block: HF `Qwen2MoeDecoderLayer.__init__`. */
function sparseLayers(config: Fields): boolean[] {
  const dense = new Set(config.mlp_only_layers);
  return Array.from(
    { length: config.num_hidden_layers },
    (_, i) => !dense.has(i) && config.num_experts > 0 && (i + 1) % config.decoder_sparse_step === 0,
  );
}
