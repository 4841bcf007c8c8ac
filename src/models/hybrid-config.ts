/** Configs of decoders whose layers are linear attention but for every fourth or so. */
import { z } from 'zod';
import { fieldError, size, width } from './config.ts';
import { parseText, type TextConfig, type TextDefaults, textFields } from './text-config.ts';

/** Far above real models, which have 64 heads of 128 dimensions at most. */
const heads = size.max(1024);
const dimensions = size.max(1024);
/** Values of a layer's state, which every sequence has: 256 MiB. Real models have a million. */
const MOST_STATE = 2 ** 26;
/** What the op takes; real models have 4 taps. */
const taps = z.int().min(2).max(64);

/** Fields that hybrid configs share, with the class defaults of HF `Qwen3NextConfig` and `Qwen3_5MoeTextConfig`. */
export const hybridFields = {
  ...textFields,
  num_attention_heads: size.default(16),
  num_key_value_heads: size.default(2),
  head_dim: size.default(256),
  moe_intermediate_size: width.default(512),
  shared_expert_intermediate_size: width.default(512),
  attention_bias: z.boolean().default(false),
  linear_num_key_heads: heads.default(16),
  linear_num_value_heads: heads.default(32),
  linear_key_head_dim: dimensions.default(128),
  linear_value_head_dim: dimensions.default(128),
  linear_conv_kernel_dim: taps.default(4),
  full_attention_interval: size.default(4),
};
type Fields = z.output<z.ZodObject<typeof hybridFields>>;

export type HybridConfig<F extends Fields = Fields> = TextConfig<F> & {
  /** Per layer: linear attention (true) or full attention. */
  readonly isLinear: readonly boolean[];
  /** Norms are stored as their distance from 1. */
  readonly normOffset: 1;
};

/** Share of a head that is rotated where the config does not say. */
const PARTIAL_ROTARY = 0.25;
const LINEAR = 'linear_attention';

/**
 * Validates the config of a hybrid decoder and works out what follows from it.
 * @throws ConfigError naming file, field and value
 */
export function parseHybrid<F extends Fields>(
  schema: z.ZodType<F>,
  json: unknown,
  file: string,
  defaults: Pick<TextDefaults<F>, 'theta' | 'path'>,
): HybridConfig<F> {
  const config = parseText(schema, json, file, {
    ...defaults,
    partial: PARTIAL_ROTARY,
    otherLayerTypes: [LINEAR],
  });
  const at = defaults.path === undefined ? '' : `${defaults.path}.`;
  const { linear_num_key_heads: keyHeads, linear_num_value_heads: valueHeads } = config;
  if (valueHeads % keyHeads !== 0)
    throw fieldError(
      file,
      `${at}linear_num_value_heads`,
      valueHeads,
      `a multiple of linear_num_key_heads (${keyHeads})`,
    );
  const { linear_key_head_dim: keyDim, linear_value_head_dim: valueDim } = config;
  if (valueHeads * keyDim * valueDim > MOST_STATE)
    throw fieldError(
      file,
      `${at}linear_num_value_heads`,
      valueHeads,
      `at most ${Math.floor(MOST_STATE / (keyDim * valueDim))} states of ${keyDim} x ${valueDim} (linear_key_head_dim x linear_value_head_dim)`,
    );
  return { ...config, isLinear: linearLayers(config), normOffset: 1 };
}

/** Which layers are linear: those that `layer_types` names, else all but the last of every `full_attention_interval`. */
function linearLayers({
  layer_types: types,
  num_hidden_layers: layers,
  full_attention_interval: every,
}: Fields) {
  return Array.from({ length: layers }, (_, n) =>
    types === undefined ? (n + 1) % every !== 0 : types[n] === LINEAR,
  );
}
