import { z } from 'zod';
import { buildDecoder } from '../nn/decoder.ts';
import { moeBlock } from '../nn/moe.ts';
import { computeRope } from '../nn/rope.ts';
import type { DecoderConfig } from '../nn/types.ts';
import type { Architecture } from './architecture.ts';
import { alias, checkText, declaredDtype, moeLayers, parseConfig, size, textFields } from './config.ts';
import { parseRope } from './rope-config.ts';

/** HF `Qwen3MoeConfig`. */
const schema = z.looseObject({
  ...textFields,
  num_attention_heads: size.default(32),
  num_key_value_heads: size.default(4),
  intermediate_size: size.default(6144),
  moe_intermediate_size: size.default(768),
  num_experts: textFields.num_experts.default(128),
  num_experts_per_tok: size.default(8),
  attention_bias: z.boolean().default(false),
});

function parse(json: unknown, file: string): DecoderConfig {
  const config = parseConfig(schema, alias(json, 'num_local_experts', 'num_experts'), file);
  const head_dim = checkText(config, file);
  const rope = computeRope(parseRope(config, 1e4, file), head_dim, config.max_position_embeddings);
  const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
  const moe_layers = moeLayers(config);
  return {
    ...config,
    head_dim,
    rope,
    attention_bias: { qkv: config.attention_bias, o: config.attention_bias },
    qk_norm: true,
    moe_layers,
    windows: moe_layers.map(() => window),
    dtype: declaredDtype(config, file),
  };
}

/** Qwen3-MoE, such as Qwen3-30B-A3B: HF `Qwen3MoeForCausalLM`. */
export const qwen3_moe: Architecture<DecoderConfig> = {
  modelType: 'qwen3_moe',
  subConfigs: [],
  parse,
  text: (config) => config,
  buildGraph(graph, config, options) {
    buildDecoder(graph, config, options, {
      prefix: 'model',
      sparseBlock: (x, prefix) => moeBlock(graph, x, prefix, config, options),
    });
  },
};
