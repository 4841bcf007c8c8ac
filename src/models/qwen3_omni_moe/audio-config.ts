import { z } from 'zod';
import { fieldError, layerCount, parseConfig, size, width } from '../config.ts';

/** HF `Qwen3OmniMoeAudioEncoderConfig`. Positions of a chunk are worked out before weights are seen: n_window / 4 of d_model values. */
const schema = z.object({
  num_mel_bins: size.max(1024).default(128),
  encoder_layers: layerCount.default(32),
  encoder_attention_heads: size.default(20),
  encoder_ffn_dim: width.default(5120),
  d_model: width.max(8192).default(1280),
  activation_function: z.literal('gelu').default('gelu'),
  max_source_positions: size.default(1500),
  scale_embedding: z.boolean().default(false),
  n_window: size.max(512).default(100),
  n_window_infer: size.default(400),
  downsample_hidden_size: width.default(480),
  output_dim: width.default(3584),
});

export type AudioConfig = z.output<typeof schema>;

/** @param hidden width of the decoder @throws ConfigError naming file, field and value */
export function parseAudio(json: unknown, file: string, hidden: number): AudioConfig {
  const path = 'audio_config';
  const config = parseConfig(schema, json, file, path);
  const { d_model, encoder_attention_heads: heads, n_window, n_window_infer } = config;
  const fail = (field: keyof AudioConfig, wanted: string) =>
    fieldError(file, `${path}.${field}`, config[field], wanted);
  if (d_model % (2 * heads) !== 0 || d_model < 4)
    throw fail('d_model', `a multiple of 2 · encoder_attention_heads (${2 * heads}), at least 4`);
  if (config.output_dim !== hidden) throw fail('output_dim', `text_config.hidden_size (${hidden})`);
  if (n_window_infer < 2 * n_window) throw fail('n_window_infer', `at least 2 · n_window (${2 * n_window})`);
  if (tokensOfChunk(2 * n_window) > config.max_source_positions)
    throw fail('max_source_positions', `at least the ${tokensOfChunk(2 * n_window)} tokens of a chunk`);
  return config;
}

/** What is left of frames, or bands, behind three convolutions of stride 2. */
export function tokensOfChunk(frames: number): number {
  return [1, 2, 3].reduce((left) => Math.ceil(left / 2), frames);
}
