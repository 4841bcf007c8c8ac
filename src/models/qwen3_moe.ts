import { z } from 'zod';
import type { Value } from '../graph/graph.ts';
import { attention } from '../nn/attention.ts';
import { embedding, gatherRows } from '../nn/embedding.ts';
import { lmHead } from '../nn/lm-head.ts';
import { gatedMlp } from '../nn/mlp.ts';
import { routedExperts } from '../nn/moe.ts';
import { rmsNorm } from '../nn/norm.ts';
import type { LayerPass } from '../nn/pass.ts';
import { rotaryTables } from '../nn/rope.ts';
import { Scope, type Variant } from '../nn/scope.ts';
import type { Architecture, Model } from './architecture.ts';
import { size, width } from './config.ts';
import { DecoderPass } from './pass.ts';
import { parseText, type TextConfig, textFields } from './text-config.ts';
import { describeText, tableNames } from './text-model.ts';

/** HF `Qwen3MoeConfig`. */
const schema = z.object({
  ...textFields,
  num_attention_heads: size.default(32),
  num_key_value_heads: size.default(4),
  intermediate_size: width.default(6144),
  moe_intermediate_size: width.default(768),
  num_experts: textFields.num_experts.default(128),
  num_experts_per_tok: size.default(8),
  attention_bias: z.boolean().default(false),
});
export type Config = TextConfig<z.output<typeof schema>>;

/** Qwen3-MoE, such as Qwen3-30B-A3B: HF `Qwen3MoeForCausalLM`. */
export const qwen3_moe: Architecture = {
  modelType: 'qwen3_moe',
  parse(json, file) {
    const config = parseText(schema, json, file, { theta: 1e4, slides: () => true });
    const model = describeText(config, { modelType: 'qwen3_moe', prefix: 'model' });
    return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model) };
  },
};

/** HF `Qwen3MoeForCausalLM`, or the bare model where the variant wants no head. */
export function causalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const tables = tableNames(g.graph.weights, 'model', config.tie_word_embeddings);
  const rotary = (positions: Value) => rotaryTables(g.at('rotary'), config.rope, positions);
  const pass = new DecoderPass(g, config, { ...model, rotary });
  const embedded = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  const x = decoder(g.at('model'), embedded, pass, config);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** HF `Qwen3MoeModel`. @param x embeddings, fp32 [tokens, hidden] */
function decoder(g: Scope<Variant>, x: Value, pass: DecoderPass, config: Config): Value {
  let residual: Value | undefined;
  for (let n = 0; n < config.num_hidden_layers; n++)
    [x, residual] = layer(g.at(`layers.${n}`), x, residual, pass.layer(n), config, n);
  return rmsNorm(g.at('norm'), x, residual, config)[0];
}

/** HF `Qwen3MoeDecoderLayer`: what a layer adds to the residual is summed up with it in the norm that follows. */
function layer(
  g: Scope<Variant>,
  x: Value,
  residual: Value | undefined,
  pass: LayerPass,
  config: Config,
  n: number,
): [x: Value, residual: Value] {
  const { attention_bias: bias, hidden_size: hidden } = config;
  [x, residual] = rmsNorm(g.at('input_layernorm'), x, residual, config);
  pass.keepHidden(residual);
  x = attention(g.at('self_attn'), x, pass, config, {
    bias: { qkv: bias, o: bias },
    headNorm: true,
    window: config.windows[n],
  });
  if (pass.rows) residual = gatherRows(g, residual, pass.rows);
  [x, residual] = rmsNorm(g.at('post_attention_layernorm'), x, residual, config);
  x = config.isSparse[n]
    ? routedExperts(g.at('mlp'), x, pass, config)
    : gatedMlp(g.at('mlp'), x, hidden, config.intermediate_size);
  return [x, residual];
}
