import { float, SWITCHYARD_DOMAIN, type Value } from '../../graph/graph.ts';
import { embedding } from '../../nn/embedding.ts';
import { linear } from '../../nn/linear.ts';
import { layerNorm } from '../../nn/norm.ts';
import { type RotaryTables, rotate } from '../../nn/rope.ts';
import type { Scope } from '../../nn/scope.ts';
import * as io from '../io.ts';
import type { VisionConfig } from './vision-config.ts';
import { towerPorts } from './vision-feeds.ts';

const NORM_EPSILON = 1e-6;

/**
 * The vision tower of Qwen3-VL for one picture or clip: patches in, merged tokens and deepstack features out (HF
 * `Qwen3VLMoeVisionModel`). Frames are the batch, so that attention stays within a frame. Inputs: see `towerPorts`; outputs:
 * `towerEmbeds` and `towerDeepstack` of `io.ts`.
 */
export function buildVisionTower(g: Scope, config: VisionConfig): void {
  const { graph } = g;
  const ports = towerPorts(config);
  const input = ({ name, dtype, shape }: io.Port) => graph.input(name, dtype, shape);
  const output = (value: Value, { name, dtype, shape }: io.Port) => graph.output(value, name, dtype, shape);
  const rotary = { cos: input(ports.cos), sin: input(ports.sin) };
  const embedded = patchEmbed(g.at('patch_embed.proj'), input(ports.pixels), config);
  const corners = [input(ports.indices), input(ports.weights)] as const;
  let x = g.op('Add', [embedded, positionEmbed(g.at('pos_embed'), ...corners, config)]);
  for (let n = 0; n < config.depth; n++) {
    x = block(g.at(`blocks.${n}`), x, rotary, config);
    const deep = config.deepstack_visual_indexes.indexOf(n);
    if (deep < 0) continue;
    const features = merger(g.at(`deepstack_merger_list.${deep}`), x, config, 'after');
    output(features, io.towerDeepstack(deep, config.out_hidden_size));
  }
  output(merger(g.at('merger'), x, config, 'before'), io.towerEmbeds(config.out_hidden_size));
}

/** A convolution whose stride is its kernel is a matrix product over flattened patches. */
function patchEmbed(g: Scope, pixels: Value, config: VisionConfig): Value {
  const { hidden_size: hidden, in_channels, temporal_patch_size, patch_size } = config;
  const weights = [g.weight('weight', [hidden, in_channels, temporal_patch_size, patch_size, patch_size])];
  const biases = [g.weight('bias', [hidden])];
  return g.ownOps('Linear', [pixels], { weights, biases, precision: g.precision })[0] as Value;
}

/** Four rows of the learned grid, mixed by their bilinear weights; one at a time, to hold no four copies of the patches. */
function positionEmbed(g: Scope, indices: Value, weights: Value, config: VisionConfig): Value {
  const corner = (k: number) => {
    const pick = (value: Value) => g.op('Gather', [value, g.graph.int64([k], [])], { axis: 0 });
    const rows = embedding(g, pick(indices), config.num_position_embeddings, config.hidden_size);
    return g.op('Mul', [rows, pick(weights)]);
  };
  return [1, 2, 3].reduce((sum, k) => g.op('Add', [sum, corner(k)]), corner(0));
}

/** HF `Qwen3VLMoeVisionBlock`. */
function block(g: Scope, x: Value, rotary: RotaryTables, config: VisionConfig): Value {
  const { hidden_size: hidden } = config;
  const attended = attention(g.at('attn'), layerNorm(g.at('norm1'), x, hidden, NORM_EPSILON), rotary, config);
  const middle = g.op('Add', [x, attended]);
  return g.op('Add', [
    middle,
    mlp(g.at('mlp'), layerNorm(g.at('norm2'), middle, hidden, NORM_EPSILON), config),
  ]);
}

/** Bidirectional attention within each frame (HF `Qwen3VLMoeVisionAttention`). */
function attention(g: Scope, x: Value, rotary: RotaryTables, config: VisionConfig): Value {
  const { hidden_size: hidden, num_heads: heads } = config;
  const qkv = linear(g.at('qkv'), x, hidden, 3 * hidden, true);
  const [q, k, v] = g.ops('Split', [qkv], { axis: -1, num_outputs: 3 }, { outputs: 3 }) as [
    Value,
    Value,
    Value,
  ];
  const attended = g.op(
    'Attention',
    [rotate(g, q, rotary, heads), rotate(g, k, rotary, heads), v],
    {
      num_heads: heads,
      kv_num_heads: heads,
      scale: float((hidden / heads) ** -0.5),
      precision: g.precision,
    },
    { domain: SWITCHYARD_DOMAIN },
  );
  return linear(g.at('proj'), attended, hidden, hidden, true);
}

/** HF `Qwen3VLMoeVisionMLP`. */
function mlp(
  g: Scope,
  x: Value,
  { hidden_size: hidden, intermediate_size: intermediate }: VisionConfig,
): Value {
  const wide = g.op('Gelu', [linear(g.at('linear_fc1'), x, hidden, intermediate, true)], {
    approximate: 'tanh',
  });
  return linear(g.at('linear_fc2'), wide, intermediate, hidden, true);
}

/**
 * Folds merge × merge neighbouring patches, which follow each other, into one token of the text model's width (HF
 * `Qwen3VLMoeVisionPatchMerger`). The final merger normalises patches before folding, the deepstack ones after.
 */
function merger(g: Scope, x: Value, config: VisionConfig, norm: 'before' | 'after'): Value {
  const { hidden_size: hidden, spatial_merge_size: merge, out_hidden_size: out } = config;
  const folded = hidden * merge * merge;
  const fold = (value: Value) => g.op('Reshape', [value, g.graph.int64([-1, folded])]);
  const normed =
    norm === 'before'
      ? fold(layerNorm(g.at('norm'), x, hidden, NORM_EPSILON))
      : layerNorm(g.at('norm'), fold(x), folded, NORM_EPSILON);
  const wide = g.op('Gelu', [linear(g.at('linear_fc1'), normed, folded, folded, true)]);
  return linear(g.at('linear_fc2'), wide, folded, out, true);
}
