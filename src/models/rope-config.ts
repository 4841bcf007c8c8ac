import { z } from 'zod';
import { ROPE_TYPES, type RopeParameters } from '../nn/rope.ts';
import { parseConfig, size } from './config.ts';

const number = z.number().positive();

const ropeSchema = z
  .looseObject({
    rope_type: z.enum(ROPE_TYPES),
    rope_theta: number,
    factor: z.number().min(1).optional(),
    original_max_position_embeddings: size.optional(),
    attention_factor: number.optional(),
    mscale: number.optional(),
    mscale_all_dim: number.optional(),
    beta_fast: number.optional(),
    beta_slow: number.optional(),
    truncate: z.boolean().optional(),
  })
  .refine((rope) => rope.rope_type === 'default' || rope.factor !== undefined, {
    path: ['factor'],
    message: 'linear and yarn scaling need a factor',
  });

interface RopeFields {
  rope_theta?: number | undefined;
  rope_scaling?: Record<string, unknown> | undefined;
  rope_parameters?: Record<string, unknown> | undefined;
}

/**
 * The rope settings of a text config. A non-empty `rope_scaling` (older files) replaces `rope_parameters`; `type` is an
 * older name of `rope_type`; theta comes from the dictionary, else from the top level, else from the class default
 * (HF `RotaryEmbeddingConfigMixin`).
 */
export function parseRope(config: RopeFields, defaultTheta: number, file: string, path = ''): RopeParameters {
  const scaling = config.rope_scaling && Object.keys(config.rope_scaling).length > 0;
  const [field, given] = scaling
    ? ['rope_scaling', config.rope_scaling]
    : ['rope_parameters', config.rope_parameters ?? {}];
  const { type, ...rest } = given as Record<string, unknown>;
  // Qwen-VL configs of older versions say "mrope" for the default frequencies with three position axes.
  const named = rest.rope_type ?? type ?? 'default';
  const settings = {
    ...rest,
    rope_type: named === 'mrope' ? 'default' : named,
    rope_theta: rest.rope_theta ?? config.rope_theta ?? defaultTheta,
  };
  return parseConfig(ropeSchema, settings, file, `${path}${field}`);
}
