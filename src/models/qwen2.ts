import { z } from 'zod';
import { Scope } from '../nn/scope.ts';
import type { Architecture } from './architecture.ts';
import { layerCount, size, width } from './config.ts';
import { causalLm } from './qwen2_moe.ts';
import { parseText, slidesBehind, textFields, withoutExperts } from './text-config.ts';
import { describeText } from './text-model.ts';

/** HF `Qwen2Config`. */
const schema = z
  .object({
    ...textFields,
    hidden_size: width.default(4096),
    num_hidden_layers: layerCount.default(32),
    num_attention_heads: size.default(32),
    num_key_value_heads: size.default(32),
    intermediate_size: width.default(22016),
  })
  .transform((fields) => ({ ...fields, qkv_bias: true, shared_expert_intermediate_size: 1 }));

/** Qwen2 and Qwen2.5, which are dense: `qwen2_moe` without experts. HF `Qwen2ForCausalLM`. */
export const qwen2: Architecture = {
  modelType: 'qwen2',
  parse(json, file) {
    const config = parseText(schema, withoutExperts(json), file, {
      theta: 1e4,
      slides: (n, fields) => slidesBehind(n, fields),
    });
    const model = describeText(config, { modelType: 'qwen2', prefix: 'model' });
    return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model) };
  },
};
