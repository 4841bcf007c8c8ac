import { z } from 'zod';
import type { Graph, Value } from '../../graph/graph.ts';
import { buildDecoder } from '../../nn/decoder.ts';
import { moeBlock } from '../../nn/moe.ts';
import { computeRope, cosSin, type RotaryTables } from '../../nn/rope.ts';
import type { DecoderConfig, GraphOptions } from '../../nn/types.ts';
import type { Architecture } from '../architecture.ts';
import {
  alias,
  checkText,
  declaredDtype,
  fieldError,
  moeLayers,
  parseConfig,
  size,
  textFields,
  tokenId,
} from '../config.ts';
import { parseRope } from '../rope-config.ts';
import { buildVisionTower, parseVision, type VisionConfig } from './vision.ts';

/** HF `Qwen3VLMoeTextConfig`. */
const textSchema = z.looseObject({
  ...textFields,
  num_attention_heads: size.default(16),
  num_key_value_heads: size.optional(),
  max_position_embeddings: size.default(128000),
  intermediate_size: size.default(5632),
  moe_intermediate_size: size.default(1408),
  num_experts: textFields.num_experts.default(60),
  num_experts_per_tok: size.default(4),
  attention_bias: z.boolean().default(false),
});

/** HF `Qwen3VLMoeConfig`. */
const schema = z.looseObject({
  text_config: z.record(z.string(), z.unknown()).default({}),
  vision_config: z.record(z.string(), z.unknown()).default({}),
  tie_word_embeddings: z.boolean().default(false),
  image_token_id: tokenId.default(151655),
  video_token_id: tokenId.default(151656),
  vision_start_token_id: tokenId.default(151652),
  vision_end_token_id: tokenId.default(151653),
  dtype: z.string().optional(),
  torch_dtype: z.string().optional(),
});

const DEFAULT_SECTIONS = [24, 20, 20];
const sections = z.tuple([size, size, size]);

export interface Qwen3VlMoeConfig {
  readonly text: DecoderConfig;
  readonly vision: VisionConfig;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
  /** Rotary pairs that turn with time, height and width. */
  readonly mropeSection: readonly [number, number, number];
}

function parse(json: unknown, file: string): Qwen3VlMoeConfig {
  const config = parseConfig(schema, json, file);
  const text = parseText(config, file);
  const vision = parseVision(config.vision_config, file);
  if (vision.out_hidden_size !== text.hidden_size)
    throw fieldError(
      file,
      'vision_config.out_hidden_size',
      vision.out_hidden_size,
      `must equal text_config.hidden_size (${text.hidden_size})`,
    );
  return {
    text,
    vision,
    imageTokenId: config.image_token_id,
    videoTokenId: config.video_token_id,
    mropeSection: parseSections(config.text_config, text.head_dim / 2, file),
  };
}

function parseText(config: z.output<typeof schema>, file: string): DecoderConfig {
  const path = 'text_config';
  const renamed = alias(config.text_config, 'num_local_experts', 'num_experts');
  const fields = parseConfig(textSchema, renamed, file, path);
  const text = { ...fields, num_key_value_heads: fields.num_key_value_heads ?? fields.num_attention_heads };
  const head_dim = checkText(text, file, `${path}.`);
  const rope = parseRope(text, 5e5, file, `${path}.`);
  const moe_layers = moeLayers(text);
  return {
    ...text,
    head_dim,
    rope: computeRope(rope, head_dim, text.max_position_embeddings),
    attention_bias: { qkv: text.attention_bias, o: text.attention_bias },
    qk_norm: true,
    moe_layers,
    windows: moe_layers.map(() => undefined),
    // HF always divides the routing weights by their sum here, and ties by the top-level field alone.
    norm_topk_prob: true,
    tie_word_embeddings: config.tie_word_embeddings,
    dtype: declaredDtype(text, file) ?? declaredDtype(config, file),
  };
}

function parseSections(text: Record<string, unknown>, pairs: number, file: string): [number, number, number] {
  const rope = (text.rope_scaling ?? text.rope_parameters ?? {}) as { mrope_section?: unknown };
  const given = rope.mrope_section ?? DEFAULT_SECTIONS;
  const parsed = sections.safeParse(given);
  if (!parsed.success)
    throw fieldError(file, 'text_config.rope_scaling.mrope_section', given, 'expected three sizes');
  const [time, height, width] = parsed.data;
  if (3 * Math.max(height, width) > pairs + 2)
    throw fieldError(
      file,
      'text_config.rope_scaling.mrope_section',
      given,
      `height and width must fit into head_dim / 2 = ${pairs} interleaved by three`,
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

/** Angles from `position_ids` int64 [3, batch, sequence]: time, height and width of every token. */
function mrope(graph: Graph, { text, mropeSection }: Qwen3VlMoeConfig): RotaryTables {
  const { inverseFrequencies, attentionScaling } = text.rope;
  const pairs = inverseFrequencies.length;
  const axes = mropeAxes(pairs, mropeSection);
  // One product spreads the axes over the pairs; each column has a single nonzero, so nothing is rounded.
  const spread = new Float32Array(3 * pairs);
  for (const [j, axis] of axes.entries()) spread[axis * pairs + j] = inverseFrequencies[j] as number;
  const positions = graph.input('position_ids', 'int64', [3, 'batch', 'sequence']);
  const last = graph.op('Transpose', [graph.op('Cast', [positions], { to: 1 })], { perm: [1, 2, 0] });
  return cosSin(graph, graph.op('MatMul', [last, graph.float32(spread, [3, pairs])]), attentionScaling);
}

/** Image features at `visual_rows`, and deepstack features added after the first layers (HF `Qwen3VLMoeTextModel`). */
function visualParts(graph: Graph, config: Qwen3VlMoeConfig) {
  const hidden = config.text.hidden_size;
  const features = (name: string) => graph.input(name, 'float32', ['visual', hidden]);
  const rows = graph.op('Unsqueeze', [graph.input('visual_rows', 'int64', ['visual']), graph.int64([-1])]);
  const scatter = (x: Value, updates: Value, reduction: 'none' | 'add') => {
    const flat = graph.op('Reshape', [x, graph.int64([-1, hidden])]);
    return graph.op('Reshape', [
      graph.op('ScatterND', [flat, rows, updates], { reduction }),
      graph.op('Shape', [x]),
    ]);
  };
  return {
    embed: (embeddings: Value) => scatter(embeddings, features('visual_embeds'), 'none'),
    afterLayer: {
      layers: config.vision.deepstack_visual_indexes.length,
      apply: (x: Value, layer: number) => scatter(x, features(`deepstack.${layer}`), 'add'),
    },
  };
}

/** Qwen3-VL-MoE, such as Qwen3-VL-30B-A3B: HF `Qwen3VLMoeForConditionalGeneration`. */
export const qwen3_vl_moe: Architecture<Qwen3VlMoeConfig> = {
  modelType: 'qwen3_vl_moe',
  subConfigs: ['text_config', 'vision_config'],
  parse,
  text: (config) => config.text,
  buildGraph(graph, config, options: GraphOptions) {
    buildDecoder(graph, config.text, options, {
      prefix: 'model.language_model',
      rotary: () => mrope(graph, config),
      sparseBlock: (x, prefix) => moeBlock(graph, x, prefix, config.text, options),
      ...(options.visual ? visualParts(graph, config) : {}),
    });
  },
  vision: {
    config: (config) => config.vision,
    tokens: (config) => ({ image: config.imageTokenId, video: config.videoTokenId }),
    buildGraph: (graph, config, dtype) => buildVisionTower(graph, config.vision, dtype),
  },
};
