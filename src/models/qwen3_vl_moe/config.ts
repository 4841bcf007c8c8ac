import { z } from 'zod';
import { declaredDtype, declaredIn, fieldError, parseConfig, size, tokenId, width } from '../config.ts';
import type { RopeDictionary } from '../rope-config.ts';
import { parseText, type TextConfig, textFields } from '../text-config.ts';
import { parseVision, type VisionConfig } from './vision-config.ts';

/** HF `Qwen3VLMoeTextConfig`. */
const textSchema = z
  .object({
    ...textFields,
    num_attention_heads: size.default(16),
    num_key_value_heads: size.nullish(),
    max_position_embeddings: size.default(128000),
    intermediate_size: width.default(5632),
    moe_intermediate_size: width.default(1408),
    num_experts: textFields.num_experts.default(60),
    num_experts_per_tok: size.default(4),
    attention_bias: z.boolean().default(false),
  })
  .transform((fields) => ({
    ...fields,
    num_key_value_heads: fields.num_key_value_heads ?? fields.num_attention_heads,
    // HF always divides the routing weights by their sum here.
    norm_topk_prob: true,
  }));

/** HF `Qwen3VLMoeConfig`. */
const schema = z.object({
  text_config: z.record(z.string(), z.unknown()).default({}),
  vision_config: z.record(z.string(), z.unknown()).default({}),
  tie_word_embeddings: z.boolean().default(false),
  image_token_id: tokenId.default(151655),
  video_token_id: tokenId.default(151656),
  dtype: z.unknown().optional(),
  torch_dtype: z.unknown().optional(),
});

const DEFAULT_SECTIONS = [24, 20, 20];
const sections = z.tuple([size, size, size]);

type SeeingText = TextConfig<z.output<typeof textSchema>>;

/** In what the text config of a family with this decoder differs. */
export interface TextFamily {
  readonly schema: z.ZodType<z.output<typeof textSchema>>;
  readonly theta: number;
}

const QWEN3_VL: TextFamily = { schema: textSchema, theta: 5e5 };

export interface Config {
  readonly text: SeeingText;
  readonly vision: VisionConfig;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
  /** Which of time (0), height (1) and width (2) turns each rotary pair. */
  readonly ropeAxes: readonly number[];
}

/** @throws ConfigError naming file, field and value */
export function parseQwen3Vl(json: unknown, file: string, family = QWEN3_VL): Config {
  const config = parseConfig(schema, json, file);
  const place = { theta: family.theta, path: 'text_config' };
  const text = parseText(family.schema, config.text_config, file, place);
  const vision = parseVision(config.vision_config, file);
  checkSeeing(text, vision, file);
  const pairs = text.head_dim / 2;
  return {
    text: {
      ...text,
      // HF ties by the top-level field alone.
      tie_word_embeddings: config.tie_word_embeddings,
      declaredDtype: declaredIn(text.declaredDtype, declaredDtype(config, file)),
    },
    vision,
    imageTokenId: config.image_token_id,
    videoTokenId: config.video_token_id,
    ropeAxes: mropeAxes(pairs, parseSections(text.ropeDictionary, pairs, file)),
  };
}

/** What holds for every decoder that sees by this tower. @throws ConfigError */
export function checkSeeing(
  text: Pick<TextConfig, 'hidden_size' | 'rope'>,
  vision: VisionConfig,
  file: string,
): void {
  if (vision.out_hidden_size !== text.hidden_size)
    throw fieldError(
      file,
      'vision_config.out_hidden_size',
      vision.out_hidden_size,
      `text_config.hidden_size (${text.hidden_size})`,
    );
  if (text.rope.byLength)
    throw fieldError(
      file,
      'text_config.rope_scaling.rope_type',
      text.rope.byLength.kind,
      'a type whose frequencies do not depend on the length, such as yarn',
    );
}

function parseSections(rope: RopeDictionary, pairs: number, file: string): [number, number, number] {
  const field = `${rope.field}.mrope_section`;
  const given = rope.given.mrope_section ?? DEFAULT_SECTIONS;
  const parsed = sections.safeParse(given);
  if (!parsed.success) throw fieldError(file, field, given, 'three sizes');
  const [time, height, width] = parsed.data;
  if (3 * Math.max(height, width) > pairs + 2)
    throw fieldError(
      file,
      field,
      given,
      `height and width that fit into head_dim / 2 = ${pairs} interleaved by three`,
    );
  return [time, height, width];
}

/** Which axis turns each rotary pair: interleaved time, height, width (HF `apply_interleaved_mrope`). */
export function mropeAxes(pairs: number, [, height, width]: readonly [number, number, number]): number[] {
  return Array.from({ length: pairs }, (_, j) => {
    if (j % 3 === 1 && j < 3 * height) return 1;
    if (j % 3 === 2 && j < 3 * width) return 2;
    return 0;
  });
}
