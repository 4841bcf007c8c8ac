import { z } from 'zod';
import { count, fieldError, layerCount, layerList, parseConfig, size, width } from '../config.ts';

/** HF `Qwen3VLMoeVisionConfig`. */
const schema = z.object({
  depth: layerCount.default(27),
  hidden_size: width.default(1152),
  hidden_act: z.literal('gelu_pytorch_tanh').default('gelu_pytorch_tanh'),
  intermediate_size: width.default(4304),
  num_heads: size.default(16),
  in_channels: size.default(3),
  patch_size: size.default(16),
  spatial_merge_size: size.default(2),
  temporal_patch_size: size.default(2),
  out_hidden_size: width.default(3584),
  num_position_embeddings: size.default(2304),
  deepstack_visual_indexes: layerList(count).default([8, 16, 24]),
});

export type VisionConfig = z.output<typeof schema>;

/** @param defaults of the model's class, where they differ @throws ConfigError naming file, field and value */
export function parseVision(
  json: Readonly<Record<string, unknown>>,
  file: string,
  defaults: Partial<VisionConfig> = {},
): VisionConfig {
  const path = 'vision_config';
  const config = parseConfig(schema, { ...defaults, ...json }, file, path);
  const { hidden_size: hidden, num_heads: heads, num_position_embeddings: positions, depth } = config;
  if (hidden % (4 * heads) !== 0)
    throw fieldError(file, `${path}.hidden_size`, hidden, `a multiple of 4 · num_heads (${4 * heads})`);
  if (!Number.isInteger(Math.sqrt(positions)))
    throw fieldError(file, `${path}.num_position_embeddings`, positions, 'a square number');
  if (new Set(config.deepstack_visual_indexes).size < config.deepstack_visual_indexes.length)
    throw fieldError(
      file,
      `${path}.deepstack_visual_indexes`,
      config.deepstack_visual_indexes,
      'different layers',
    );
  for (const layer of config.deepstack_visual_indexes) {
    if (layer >= depth)
      throw fieldError(file, `${path}.deepstack_visual_indexes`, layer, `less than depth (${depth})`);
  }
  return config;
}
