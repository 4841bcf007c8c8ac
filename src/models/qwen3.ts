import { z } from 'zod';
import { Scope } from '../nn/scope.ts';
import type { Architecture } from './architecture.ts';
import { layerCount, size, width } from './config.ts';
import { causalLm } from './qwen3_moe.ts';
import { parseText, slidesBehind, textFields, withoutExperts } from './text-config.ts';
import { describeText } from './text-model.ts';

/** HF `Qwen3Config`. */
const schema = z.object({
  ...textFields,
  hidden_size: width.default(4096),
  num_hidden_layers: layerCount.default(32),
  num_attention_heads: size.default(32),
  num_key_value_heads: size.default(32),
  head_dim: size.default(128),
  intermediate_size: width.default(22016),
  attention_bias: z.boolean().default(false),
});

/** Qwen3, which is dense: `qwen3_moe` without experts. HF `Qwen3ForCausalLM`. */
export const qwen3: Architecture = {
  modelType: 'qwen3',
  parse(json, file) {
    const config = parseText(schema, withoutExperts(json), file, {
      theta: 1e4,
      slides: (n, fields) => slidesBehind(n, fields),
    });
    const model = describeText(config, { modelType: 'qwen3', prefix: 'model' });
    return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model) };
  },
};
