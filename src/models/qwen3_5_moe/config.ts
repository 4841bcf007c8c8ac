import { z } from 'zod';
import {
  declaredDtype,
  declaredIn,
  fieldError,
  layerCount,
  parseConfig,
  size,
  tokenId,
  width,
} from '../config.ts';
import { type HybridConfig, hybridFields, parseHybrid } from '../hybrid-config.ts';
import { checkSeeing, mropeAxes } from '../qwen3_vl_moe/config.ts';
import { parseVision, type VisionConfig } from '../qwen3_vl_moe/vision-config.ts';
import { withoutExperts } from '../text-config.ts';

/** HF `Qwen3_5TextConfig`, which is dense. */
const denseSchema = z.object({
  ...hybridFields,
  vocab_size: size.default(248320),
  hidden_size: width.default(4096),
  num_hidden_layers: layerCount.default(32),
  num_key_value_heads: size.default(4),
  intermediate_size: width.default(12288),
});

/** HF `Qwen3_5MoeTextConfig`. */
const moeSchema = z
  .object({
    ...hybridFields,
    vocab_size: size.default(248320),
    num_hidden_layers: layerCount.default(40),
    // No layer is dense.
    intermediate_size: width.default(1),
    num_experts: hybridFields.num_experts.min(1).default(256),
    num_experts_per_tok: size.default(8),
  })
  .transform((fields) => ({
    ...fields,
    // HF always divides the routing weights by their sum, and every layer routes, whatever these fields say.
    norm_topk_prob: true,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  }));
export type TextConfig = HybridConfig<z.output<typeof denseSchema>>;
/** Whether layers route to experts; the family has both kinds. */
export type Kind = 'dense' | 'moe';

/** HF `Qwen3_5Config` and `Qwen3_5MoeConfig`. */
const schema = z.object({
  text_config: z.record(z.string(), z.unknown()).default({}),
  vision_config: z.record(z.string(), z.unknown()).default({}),
  tie_word_embeddings: z.boolean().default(false),
  image_token_id: tokenId.default(248056),
  video_token_id: tokenId.default(248057),
  dtype: z.unknown().optional(),
  torch_dtype: z.unknown().optional(),
});

export interface Config<Text extends TextConfig = TextConfig> {
  readonly text: Text;
  readonly vision: VisionConfig;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
  /** Which of time (0), height (1) and width (2) turns each rotary pair. */
  readonly ropeAxes: readonly number[];
}

const THETA = 1e4;
const DEFAULT_SECTIONS = [11, 11, 10];
const sections = z.tuple([size, size, size]);

/** The config of a decoder by itself. @throws ConfigError naming file, field and value */
export function parseTextConfig(json: unknown, file: string, kind: Kind, path?: string): TextConfig {
  const place = { theta: THETA, ...(path === undefined ? {} : { path }) };
  if (kind === 'dense') return parseHybrid(denseSchema, withoutExperts(json), file, place);
  return parseHybrid(moeSchema, json, file, place);
}

/** @throws ConfigError naming file, field and value */
export function parseQwen35(json: unknown, file: string, kind: Kind): Config {
  return parseSeeing(json, file, (text, path) => parseTextConfig(text, file, kind, path));
}

/**
 * The config of a hybrid decoder that sees by the tower of Qwen3-VL.
 * @param parse of what `path` holds
 * @throws ConfigError naming file, field and value
 */
export function parseSeeing<Text extends TextConfig>(
  json: unknown,
  file: string,
  parse: (text: unknown, path: string) => Text,
): Config<Text> {
  const config = parseConfig(schema, json, file);
  const text = parse(config.text_config, 'text_config');
  const vision = parseVision(config.vision_config, file, { deepstack_visual_indexes: [] });
  checkSeeing(text, vision, file);
  return {
    text: {
      ...text,
      // HF looks at the level of the class that opens the model, and leaves a head that is then missing random.
      tie_word_embeddings: config.tie_word_embeddings || text.tie_word_embeddings,
      declaredDtype: declaredIn(text.declaredDtype, declaredDtype(config, file)),
    },
    vision,
    imageTokenId: config.image_token_id,
    videoTokenId: config.video_token_id,
    ropeAxes: mropeAxes(text.rope.inverseFrequencies.length, parseSections(text, file)),
  };
}

/** Sections reach beyond the pairs of small heads, where they end. */
function parseSections(
  { ropeDictionary: { field, given } }: TextConfig,
  file: string,
): [number, number, number] {
  const value = given.mrope_section ?? DEFAULT_SECTIONS;
  const parsed = sections.safeParse(value);
  if (!parsed.success) throw fieldError(file, `${field}.mrope_section`, value, 'three sizes');
  return parsed.data;
}
