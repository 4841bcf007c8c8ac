import type { Value } from '../../graph/graph.ts';
import { attention } from '../../nn/attention.ts';
import { gatherRows } from '../../nn/embedding.ts';
import { gatedDeltaNet } from '../../nn/gated-delta-net.ts';
import { gatedMlp } from '../../nn/mlp.ts';
import { rmsNorm } from '../../nn/norm.ts';
import type { LayerPass } from '../../nn/pass.ts';
import type { Scope, Variant } from '../../nn/scope.ts';
import type { DecoderPass } from '../pass.ts';
import { expertsWithShared } from '../shared-expert.ts';
import type { TextConfig } from './config.ts';

/** HF `Qwen3_5MoeTextModel`. @param x embeddings, with those of pictures in place; fp32 [tokens, hidden] */
export function decoder(g: Scope<Variant>, x: Value, pass: DecoderPass, config: TextConfig): Value {
  let residual: Value | undefined;
  for (let n = 0; n < config.num_hidden_layers; n++)
    [x, residual] = layer(g.at(`layers.${n}`), x, residual, pass.layer(n), config, n);
  return rmsNorm(g.at('norm'), x, residual, config)[0];
}

/** HF `Qwen3_5MoeDecoderLayer`: what a layer adds to the residual is summed up with it in the norm that follows. */
function layer(
  g: Scope<Variant>,
  x: Value,
  residual: Value | undefined,
  pass: LayerPass,
  config: TextConfig,
  n: number,
): [x: Value, residual: Value] {
  const { attention_bias: bias } = config;
  [x, residual] = rmsNorm(g.at('input_layernorm'), x, residual, config);
  pass.keepHidden(residual);
  x = config.isLinear[n]
    ? gatedDeltaNet(g.at('linear_attn'), x, pass, config, 'separate')
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
