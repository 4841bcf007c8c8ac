import { z } from 'zod';
import type { Value } from '../graph/graph.ts';
import { attention } from '../nn/attention.ts';
import { embedding, gatherRows } from '../nn/embedding.ts';
import { lmHead } from '../nn/lm-head.ts';
import { gatedMlp } from '../nn/mlp.ts';
import { rmsNorm } from '../nn/norm.ts';
import type { LayerPass } from '../nn/pass.ts';
import { rotaryTables } from '../nn/rope.ts';
import { Scope, type Variant } from '../nn/scope.ts';
import type { Architecture, Model } from './architecture.ts';
import { size, width } from './config.ts';
import { DecoderPass } from './pass.ts';
import { expertsWithShared } from './shared-expert.ts';
import { parseText, type TextConfig, textFields } from './text-config.ts';
import { describeText, tableNames } from './text-model.ts';

/** HF `Qwen2MoeConfig`. */
const schema = z.object({
  ...textFields,
  num_attention_heads: size.default(16),
  num_key_value_heads: size.default(16),
  intermediate_size: width.default(5632),
  moe_intermediate_size: width.default(1408),
  shared_expert_intermediate_size: width.default(5632),
  num_experts: textFields.num_experts.default(60),
  num_experts_per_tok: size.default(4),
  qkv_bias: z.boolean().default(true),
});
export type Config = TextConfig<z.output<typeof schema>>;

/** Qwen1.5-MoE and Qwen2-MoE: HF `Qwen2MoeForCausalLM`. */
export const qwen2_moe: Architecture = {
  modelType: 'qwen2_moe',
  parse(json, file) {
    const config = parseText(schema, json, file, {
      theta: 1e4,
      // HF `Qwen2MoeConfig.layer_types`: even layers below max_window_layers slide, all others see everything.
      slides: (n, { max_window_layers }) => n % 2 === 0 && n < max_window_layers,
    });
    const model = describeText(config, { modelType: 'qwen2_moe', prefix: 'model' });
    return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model) };
  },
};

/** HF `Qwen2MoeForCausalLM`, or the bare model where the variant wants no head. */
export function causalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const tables = tableNames(g.graph.weights, 'model', config.tie_word_embeddings);
  const rotary = (positions: Value) => rotaryTables(g.at('rotary'), config.rope, positions);
  const pass = new DecoderPass(g, config, { ...model, rotary });
  const embedded = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  const x = decoder(g.at('model'), embedded, pass, config);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** HF `Qwen2MoeModel`. @param x embeddings, fp32 [tokens, hidden] */
function decoder(g: Scope<Variant>, x: Value, pass: DecoderPass, config: Config): Value {
  let residual: Value | undefined;
  for (let n = 0; n < config.num_hidden_layers; n++)
    [x, residual] = layer(g.at(`layers.${n}`), x, residual, pass.layer(n), config, n);
  return rmsNorm(g.at('norm'), x, residual, config)[0];
}

/** HF `Qwen2MoeDecoderLayer`: what a layer adds to the residual is summed up with it in the norm that follows. */
function layer(
  g: Scope<Variant>,
  x: Value,
  residual: Value | undefined,
  pass: LayerPass,
  config: Config,
  n: number,
): [x: Value, residual: Value] {
  [x, residual] = rmsNorm(g.at('input_layernorm'), x, residual, config);
  pass.keepHidden(residual);
  x = attention(g.at('self_attn'), x, pass, config, {
    bias: { qkv: config.qkv_bias, o: false },
    headNorm: false,
    window: config.windows[n],
  });
  if (pass.rows) residual = gatherRows(g, residual, pass.rows);
  [x, residual] = rmsNorm(g.at('post_attention_layernorm'), x, residual, config);
  x = config.isSparse[n]
    ? expertsWithShared(g.at('mlp'), x, pass, config)
    : gatedMlp(g.at('mlp'), x, config.hidden_size, config.intermediate_size);
  return [x, residual];
}
