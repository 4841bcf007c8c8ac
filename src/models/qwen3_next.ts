import { z } from 'zod';
import type { Value } from '../graph/graph.ts';
import { attention } from '../nn/attention.ts';
import { embedding, gatherRows } from '../nn/embedding.ts';
import { gatedDeltaNet } from '../nn/gated-delta-net.ts';
import { lmHead } from '../nn/lm-head.ts';
import { gatedMlp } from '../nn/mlp.ts';
import { rmsNorm } from '../nn/norm.ts';
import type { LayerPass } from '../nn/pass.ts';
import { rotaryTables } from '../nn/rope.ts';
import { Scope, type Variant } from '../nn/scope.ts';
import type { Architecture, Model } from './architecture.ts';
import { layerCount, size, width } from './config.ts';
import { type HybridConfig, hybridFields, parseHybrid } from './hybrid-config.ts';
import { describeHybrid } from './hybrid-model.ts';
import { DecoderPass } from './pass.ts';
import { expertsWithShared } from './shared-expert.ts';
import { tableNames } from './text-model.ts';

/** HF `Qwen3NextConfig`. */
const schema = z.object({
  ...hybridFields,
  num_hidden_layers: layerCount.default(48),
  intermediate_size: width.default(5632),
  num_experts: hybridFields.num_experts.default(512),
  num_experts_per_tok: size.default(10),
  norm_topk_prob: z.boolean().default(true),
});
type Config = HybridConfig<z.output<typeof schema>>;

/** Qwen3-Next and Qwen3-Coder-Next, such as Qwen3-Next-80B-A3B: HF `Qwen3NextForCausalLM`. */
export const qwen3_next: Architecture = {
  modelType: 'qwen3_next',
  parse(json, file) {
    const config = parseHybrid(schema, json, file, { theta: 1e4 });
    const model = describeHybrid(config, { modelType: 'qwen3_next', prefix: 'model' });
    return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model) };
  },
};

/** HF `Qwen3NextForCausalLM`, or the bare model where the variant wants no head. */
function causalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const tables = tableNames(g.graph.weights, 'model', config.tie_word_embeddings);
  const rotary = (positions: Value) => rotaryTables(g.at('rotary'), config.rope, positions);
  const pass = new DecoderPass(g, config, { ...model, rotary });
  const embedded = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  const x = decoder(g.at('model'), embedded, pass, config);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** HF `Qwen3NextModel`. @param x embeddings, fp32 [tokens, hidden] */
function decoder(g: Scope<Variant>, x: Value, pass: DecoderPass, config: Config): Value {
  let residual: Value | undefined;
  for (let n = 0; n < config.num_hidden_layers; n++)
    [x, residual] = layer(g.at(`layers.${n}`), x, residual, pass.layer(n), config, n);
  return rmsNorm(g.at('norm'), x, residual, config)[0];
}

/** HF `Qwen3NextDecoderLayer`: what a layer adds to the residual is summed up with it in the norm that follows. */
function layer(
  g: Scope<Variant>,
  x: Value,
  residual: Value | undefined,
  pass: LayerPass,
  config: Config,
  n: number,
): [x: Value, residual: Value] {
  const { attention_bias: bias } = config;
  [x, residual] = rmsNorm(g.at('input_layernorm'), x, residual, config);
  pass.keepHidden(residual);
  x = config.isLinear[n]
    ? gatedDeltaNet(g.at('linear_attn'), x, pass, config, 'grouped')
    : attention(g.at('self_attn'), x, pass, config, {
        bias: { qkv: bias, o: bias },
        headNorm: true,
        window: undefined,
        gated: true,
      });
  if (pass.rows) residual = gatherRows(g, residual, pass.rows);
  [x, residual] = rmsNorm(g.at('post_attention_layernorm'), x, residual, config);
  x = config.isSparse[n]
    ? expertsWithShared(g.at('mlp'), x, pass, config)
    : gatedMlp(g.at('mlp'), x, config.hidden_size, config.intermediate_size);
  return [x, residual];
}
