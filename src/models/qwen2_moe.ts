import { z } from 'zod';
import type { Graph, Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import { buildDecoder } from '../nn/decoder.ts';
import { moeBlock } from '../nn/moe.ts';
import { computeRope } from '../nn/rope.ts';
import type { DecoderConfig, GraphOptions } from '../nn/types.ts';
import type { Architecture } from './architecture.ts';
import { checkText, declaredDtype, moeLayers, parseConfig, size, textFields } from './config.ts';
import { parseRope } from './rope-config.ts';

/** HF `Qwen2MoeConfig`. */
const schema = z.looseObject({
  ...textFields,
  num_attention_heads: size.default(16),
  num_key_value_heads: size.default(16),
  intermediate_size: size.default(5632),
  moe_intermediate_size: size.default(1408),
  shared_expert_intermediate_size: size.default(5632),
  num_experts: textFields.num_experts.default(60),
  num_experts_per_tok: size.default(4),
  qkv_bias: z.boolean().default(true),
});

export interface Qwen2MoeConfig extends DecoderConfig {
  readonly shared_expert_intermediate_size: number;
}

function parse(json: unknown, file: string): Qwen2MoeConfig {
  const config = parseConfig(schema, json, file);
  const head_dim = checkText(config, file);
  const rope = computeRope(parseRope(config, 1e4, file), head_dim, config.max_position_embeddings);
  const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
  const moe_layers = moeLayers(config);
  return {
    ...config,
    head_dim,
    rope,
    attention_bias: { qkv: config.qkv_bias, o: false },
    qk_norm: false,
    moe_layers,
    // HF Qwen2MoeConfig.layer_types: even layers below max_window_layers slide, all others see everything.
    windows: moe_layers.map((_, i) => (i % 2 === 0 && i < config.max_window_layers ? window : undefined)),
    dtype: declaredDtype(config, file),
  };
}

/** Routed experts plus a shared expert behind a sigmoid gate: HF `Qwen2MoeSparseMoeBlock`. */
function sparseBlock(graph: Graph, x: Value, prefix: string, config: Qwen2MoeConfig, options: GraphOptions) {
  const { hidden_size: hidden, shared_expert_intermediate_size: intermediate } = config;
  const routed = moeBlock(graph, x, prefix, config, options);
  const [shared] = graph.ownOps('GatedMlp', [x], {
    gate: graph.weight(`${prefix}.shared_expert.gate_proj.weight`, [intermediate, hidden]),
    up: graph.weight(`${prefix}.shared_expert.up_proj.weight`, [intermediate, hidden]),
    down: graph.weight(`${prefix}.shared_expert.down_proj.weight`, [hidden, intermediate]),
    output_gate: graph.weight(`${prefix}.shared_expert_gate.weight`, [1, hidden]),
    precision: PRECISION[options.dtype],
  });
  return { ...routed, output: graph.op('Add', [routed.output, shared]) };
}

/** Qwen1.5-MoE and Qwen2-MoE: HF `Qwen2MoeForCausalLM`. */
export const qwen2_moe: Architecture<Qwen2MoeConfig> = {
  modelType: 'qwen2_moe',
  subConfigs: [],
  parse,
  text: (config) => config,
  buildGraph(graph, config, options) {
    buildDecoder(graph, config, options, {
      prefix: 'model',
      sparseBlock: (x, prefix) => sparseBlock(graph, x, prefix, config, options),
    });
  },
};
