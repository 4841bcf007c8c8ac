import type { Value } from '../../graph/graph.ts';
import { attention } from '../../nn/attention.ts';
import { blockIndex } from '../../nn/block-index.ts';
import { gatedDeltaNet } from '../../nn/gated-delta-net.ts';
import { ngramMemory } from '../../nn/ngram-memory.ts';
import type { LayerPass } from '../../nn/pass.ts';
import { closeStreams, openStreams, readStreams } from '../../nn/residual-streams.ts';
import type { Scope, Variant } from '../../nn/scope.ts';
import type { DecoderPass } from '../pass.ts';
import { expertsWithShared } from '../shared-expert.ts';
import type { TextConfig } from './config.ts';

/** HF `Qwen4ExpTextModel`. @param x embeddings, with those of pictures in place; fp32 [tokens, hidden] */
export function decoder(g: Scope<Variant>, x: Value, pass: DecoderPass, config: TextConfig): Value {
  let residual = openStreams(g, x, config);
  for (let n = 0; n < config.num_hidden_layers; n++)
    residual = layer(g.at(`layers.${n}`), residual, pass, config, n);
  return closeStreams(g.at('hyper_connection_mixer'), residual, config);
}

/** HF `Qwen4ExpTextDecoderLayer`. @param residual the streams, fp32 [tokens, hc_count · hidden] */
function layer(
  g: Scope<Variant>,
  residual: Value,
  decoderPass: DecoderPass,
  config: TextConfig,
  n: number,
): Value {
  const pass = decoderPass.layer(n);
  pass.keepHidden(residual);
  const memory = config.memoryLayers.indexOf(n);
  const { ids: own, precedingIds: preceding } = decoderPass;
  let streams = residual;
  if (memory >= 0 && preceding)
    streams = ngramMemory(g.at('ple'), streams, { own, preceding }, pass, config, memory);
  const before = readStreams(g.at('attn_hyper_connection'), streams, config);
  const mixed = config.isLinear[n]
    ? gatedDeltaNet(g.at('linear_attn'), before.x, pass, config, 'separate')
    : indexedAttention(g.at('self_attn'), before.x, pass, config);
  streams = before.inject(mixed, pass.rows);
  const behind = readStreams(g.at('mlp_hyper_connection'), streams, config);
  return behind.inject(expertsWithShared(g.at('mlp'), behind.x, pass, config));
}

/** HF `Qwen4ExpTextAttention`. */
function indexedAttention(g: Scope<Variant>, x: Value, pass: LayerPass, config: TextConfig): Value {
  const { attention_bias: bias } = config;
  return attention(g, x, pass, config, {
    bias: { qkv: bias, o: bias },
    headNorm: true,
    window: undefined,
    gated: true,
    selection: blockIndex(g.at('indexer'), x, pass, config),
  });
}
