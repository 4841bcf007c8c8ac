import { z } from 'zod';
import { float, type Graph, SWITCHYARD_DOMAIN, type Value } from '../../graph/graph.ts';
import { type DType, PRECISION } from '../../graph/precision.ts';
import { linear, type Projection } from '../../nn/linear.ts';
import { type RotaryTables, rotate } from '../../nn/rope.ts';
import { count, fieldError, parseConfig, size } from '../config.ts';

/** HF `Qwen3VLMoeVisionConfig`. */
const schema = z.looseObject({
  depth: size.default(27),
  hidden_size: size.default(1152),
  hidden_act: z.literal('gelu_pytorch_tanh').default('gelu_pytorch_tanh'),
  intermediate_size: size.default(4304),
  num_heads: size.default(16),
  in_channels: size.default(3),
  patch_size: size.default(16),
  spatial_merge_size: size.default(2),
  temporal_patch_size: size.default(2),
  out_hidden_size: size.default(3584),
  num_position_embeddings: size.default(2304),
  deepstack_visual_indexes: z.array(count).default([8, 16, 24]),
});

export type VisionConfig = z.output<typeof schema>;

const PREFIX = 'model.visual';
const NORM_EPSILON = 1e-6;

/** @throws ConfigError naming file, field and value */
export function parseVision(json: unknown, file: string): VisionConfig {
  const path = 'vision_config';
  const config = parseConfig(schema, json, file, path);
  const { hidden_size: hidden, num_heads: heads, num_position_embeddings: positions, depth } = config;
  if (hidden % (4 * heads) !== 0)
    throw fieldError(
      file,
      `${path}.hidden_size`,
      hidden,
      `must be a multiple of 4 · num_heads (${4 * heads})`,
    );
  if (!Number.isInteger(Math.sqrt(positions)))
    throw fieldError(file, `${path}.num_position_embeddings`, positions, 'must be a square number');
  for (const layer of config.deepstack_visual_indexes) {
    if (layer >= depth)
      throw fieldError(file, `${path}.deepstack_visual_indexes`, layer, `must be below depth (${depth})`);
  }
  return config;
}

/**
 * The vision tower of Qwen3-VL for one picture or clip: patches in, merged tokens and deepstack features out (HF
 * `Qwen3VLMoeVisionModel`). Frames are the batch, so that attention stays within a frame.
 *
 * Inputs: `pixel_values` fp32 [frames, patches, channels · temporal · patch · patch]; `position_indices` int64 [4, frames,
 * patches] and `position_weights` fp32 [4, frames, patches, 1] (bilinear mix of the learned positions); `cos`, `sin` fp32
 * [frames, patches, head / 2]. Outputs: `embeds` and `deepstack.N`, fp32 [frames · patches / merge², text hidden].
 */
export function buildVisionTower(graph: Graph, config: VisionConfig, dtype: DType): void {
  const {
    hidden_size: hidden,
    patch_size: patch,
    temporal_patch_size: temporal,
    in_channels: channels,
  } = config;
  const precision = PRECISION[dtype];
  const pixels = channels * temporal * patch * patch;
  const headHalf = hidden / config.num_heads / 2;
  const table = (name: string) => graph.input(name, 'float32', ['frames', 'patches', headHalf]);
  const rotary = { cos: table('cos'), sin: table('sin') };
  const input = graph.input('pixel_values', 'float32', ['frames', 'patches', pixels]);
  let x = graph.op('Add', [patchEmbed(graph, input, config, precision), positionEmbed(graph, config)]);
  for (let layer = 0; layer < config.depth; layer++) {
    x = graph.scope(`blocks.${layer}`, () =>
      block(graph, x, `${PREFIX}.blocks.${layer}`, config, rotary, precision),
    );
    const deep = config.deepstack_visual_indexes.indexOf(layer);
    if (deep < 0) continue;
    const features = merger(graph, x, `${PREFIX}.deepstack_merger_list.${deep}`, config, 'after', precision);
    graph.output(features, `deepstack.${deep}`, 'float32', ['tokens', config.out_hidden_size]);
  }
  const embeds = merger(graph, x, `${PREFIX}.merger`, config, 'before', precision);
  graph.output(embeds, 'embeds', 'float32', ['tokens', config.out_hidden_size]);
}

/** A convolution whose stride is its kernel is a matrix product over flattened patches. */
function patchEmbed(graph: Graph, pixels: Value, config: VisionConfig, precision: number): Value {
  const {
    hidden_size: hidden,
    in_channels: channels,
    temporal_patch_size: temporal,
    patch_size: patch,
  } = config;
  const weights = [
    graph.weight(`${PREFIX}.patch_embed.proj.weight`, [hidden, channels, temporal, patch, patch]),
  ];
  const biases = [graph.weight(`${PREFIX}.patch_embed.proj.bias`, [hidden])];
  return graph.ownOps('Linear', [pixels], { weights, biases, precision })[0] as Value;
}

/** Four rows of the learned grid, mixed by their bilinear weights; one at a time, to hold no four copies of the patches. */
function positionEmbed(graph: Graph, config: VisionConfig): Value {
  const { hidden_size: hidden, num_position_embeddings: positions } = config;
  const indices = graph.input('position_indices', 'int64', [4, 'frames', 'patches']);
  const weights = graph.input('position_weights', 'float32', [4, 'frames', 'patches', 1]);
  const weight = graph.weight(`${PREFIX}.pos_embed.weight`, [positions, hidden]);
  const corner = (k: number) => {
    const pick = (value: Value) => graph.op('Gather', [value, graph.int64([k], [])], { axis: 0 });
    const [rows] = graph.ownOps('Embedding', [pick(indices)], { weight }) as [Value];
    return graph.op('Mul', [rows, pick(weights)]);
  };
  return [1, 2, 3].reduce((sum, k) => graph.op('Add', [sum, corner(k)]), corner(0));
}

/** HF `Qwen3VLMoeVisionBlock`. */
function block(
  graph: Graph,
  x: Value,
  prefix: string,
  config: VisionConfig,
  rotary: RotaryTables,
  precision: number,
): Value {
  const { hidden_size: hidden, intermediate_size: intermediate } = config;
  const attended = attention(
    graph,
    layerNorm(graph, x, `${prefix}.norm1`, hidden),
    prefix,
    config,
    rotary,
    precision,
  );
  const middle = graph.op('Add', [x, attended]);
  const normed = layerNorm(graph, middle, `${prefix}.norm2`, hidden);
  const project = (value: Value, name: string, from: number, to: number) =>
    projection(graph, value, { name: `${prefix}.mlp.${name}`, outFeatures: to, bias: true }, from, precision);
  const wide = graph.op('Gelu', [project(normed, 'linear_fc1', hidden, intermediate)], {
    approximate: 'tanh',
  });
  return graph.op('Add', [middle, project(wide, 'linear_fc2', intermediate, hidden)]);
}

/** Bidirectional attention within each frame (HF `Qwen3VLMoeVisionAttention`). */
function attention(
  graph: Graph,
  x: Value,
  prefix: string,
  config: VisionConfig,
  rotary: RotaryTables,
  precision: number,
): Value {
  const { hidden_size: hidden, num_heads: heads } = config;
  const qkv = projection(
    graph,
    x,
    { name: `${prefix}.attn.qkv`, outFeatures: 3 * hidden, bias: true },
    hidden,
    precision,
  );
  const [q, k, v] = graph.ops('Split', [qkv], { axis: -1, num_outputs: 3 }, { outputs: 3 }) as [
    Value,
    Value,
    Value,
  ];
  const attended = graph.op(
    'Attention',
    [rotate(graph, q, rotary, heads), rotate(graph, k, rotary, heads), v],
    { num_heads: heads, kv_num_heads: heads, scale: float((hidden / heads) ** -0.5), precision },
    { domain: SWITCHYARD_DOMAIN },
  );
  return projection(
    graph,
    attended,
    { name: `${prefix}.attn.proj`, outFeatures: hidden, bias: true },
    hidden,
    precision,
  );
}

/**
 * Folds merge × merge neighbouring patches, which follow each other, into one token of the text model's width (HF
 * `Qwen3VLMoeVisionPatchMerger`). The final merger normalises patches before folding, the deepstack ones after.
 */
function merger(
  graph: Graph,
  x: Value,
  prefix: string,
  config: VisionConfig,
  norm: 'before' | 'after',
  precision: number,
): Value {
  const { hidden_size: hidden, spatial_merge_size: merge, out_hidden_size: out } = config;
  const folded = hidden * merge * merge;
  const fold = (value: Value) => graph.op('Reshape', [value, graph.int64([-1, folded])]);
  const normed =
    norm === 'before'
      ? fold(layerNorm(graph, x, `${prefix}.norm`, hidden))
      : layerNorm(graph, fold(x), `${prefix}.norm`, folded);
  const project = (value: Value, name: string, outFeatures: number) =>
    projection(graph, value, { name: `${prefix}.${name}`, outFeatures, bias: true }, folded, precision);
  return project(graph.op('Gelu', [project(normed, 'linear_fc1', folded)]), 'linear_fc2', out);
}

function layerNorm(graph: Graph, x: Value, prefix: string, features: number): Value {
  const vector = (name: string) => graph.vector(`${prefix}.${name}`, [features]);
  return graph.op('LayerNormalization', [x, vector('weight'), vector('bias')], {
    axis: -1,
    epsilon: float(NORM_EPSILON),
  });
}

function projection(graph: Graph, x: Value, to: Projection, inFeatures: number, precision: number): Value {
  return linear(graph, x, inFeatures, [to], precision)[0] as Value;
}
