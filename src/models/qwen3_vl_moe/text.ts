import type { Value } from '../../graph/graph.ts';
import { attention } from '../../nn/attention.ts';
import { gatherRows } from '../../nn/embedding.ts';
import { gatedMlp } from '../../nn/mlp.ts';
import { routedExperts } from '../../nn/moe.ts';
import { rmsNorm } from '../../nn/norm.ts';
import type { LayerPass } from '../../nn/pass.ts';
import type { Scope, Variant } from '../../nn/scope.ts';
import type { DecoderPass } from '../pass.ts';
import type { Config } from './config.ts';
import type { VisualFeatures } from './visual-features.ts';

/**
 * HF `Qwen3VLMoeTextModel`.
 * @param x embeddings, with those of pictures in place; fp32 [tokens, hidden]
 * @param visual features that are added behind the first layers
 */
export function decoder(
  g: Scope<Variant>,
  x: Value,
  pass: DecoderPass,
  config: Config['text'],
  visual: VisualFeatures | undefined,
): Value {
  let residual: Value | undefined;
  for (let n = 0; n < config.num_hidden_layers; n++) {
    [x, residual] = layer(g.at(`layers.${n}`), x, residual, pass.layer(n), config, n);
    if (visual) residual = visual.deepstack(residual, n);
  }
  return rmsNorm(g.at('norm'), x, residual, config)[0];
}

/** HF `Qwen3VLMoeTextDecoderLayer`: what a layer adds to the residual is summed up with it in the norm that follows. */
function layer(
  g: Scope<Variant>,
  x: Value,
  residual: Value | undefined,
  pass: LayerPass,
  config: Config['text'],
  n: number,
): [x: Value, residual: Value] {
  const { attention_bias: bias, hidden_size: hidden } = config;
  [x, residual] = rmsNorm(g.at('input_layernorm'), x, residual, config);
  pass.keepHidden(residual);
  x = attention(g.at('self_attn'), x, pass, config, {
    bias: { qkv: bias, o: bias },
    headNorm: true,
    window: undefined,
  });
  if (pass.rows) residual = gatherRows(g, residual, pass.rows);
  [x, residual] = rmsNorm(g.at('post_attention_layernorm'), x, residual, config);
  x = config.isSparse[n]
    ? routedExperts(g.at('mlp'), x, pass, config)
    : gatedMlp(g.at('mlp'), x, hidden, config.intermediate_size);
  return [x, residual];
}
