import { float, type Graph, SWITCHYARD_DOMAIN, type Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import { linear } from './linear.ts';
import { rmsNorm } from './norm.ts';
import { type RotaryTables, rotate } from './rope.ts';
import type { DecoderConfig, GraphOptions } from './types.ts';

/** What all layers' attention share in one run. */
export interface AttentionInputs {
  readonly rotary: RotaryTables;
  /** int32 [batch]: index of each row's newest position. */
  readonly lastPositions: Value;
  /** int32 []: largest number of positions in use, newest included. */
  readonly totalLength: Value;
}

/**
 * Causal grouped-query attention with a KV cache written in place (HF `Qwen2MoeAttention`, `Qwen3MoeAttention`).
 * @param x fp32 [batch, sequence, hidden]
 * @param prefix tensor prefix of the layer's `self_attn`
 * @param rows int64 [rows]: flattened positions wanted; all of them without it
 * @returns fp32 [batch, sequence, hidden], or [rows, hidden]
 */
export function attention(
  graph: Graph,
  x: Value,
  prefix: string,
  layer: number,
  config: DecoderConfig,
  shared: AttentionInputs,
  options: GraphOptions,
  rows?: Value,
): Value {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
  const precision = PRECISION[options.dtype];
  const project = (name: string, count: number) => ({
    name: `${prefix}.${name}`,
    outFeatures: count * headDim,
    bias: config.attention_bias.qkv,
  });
  let [q, k, v] = linear(
    graph,
    x,
    config.hidden_size,
    [project('q_proj', heads), project('k_proj', kvHeads), project('v_proj', kvHeads)],
    precision,
  ) as [Value, Value, Value];
  if (config.qk_norm) {
    q = headNorm(graph, q, `${prefix}.q_norm.weight`, heads, config);
    k = headNorm(graph, k, `${prefix}.k_norm.weight`, kvHeads, config);
  }
  q = rotate(graph, q, shared.rotary, heads);
  k = rotate(graph, k, shared.rotary, kvHeads);
  const attended = cachedAttention(graph, q, k, v, layer, config, shared, precision);
  const [output] = linear(
    graph,
    rows ? gatherRows(graph, attended, rows, heads * headDim) : attended,
    heads * headDim,
    [{ name: `${prefix}.o_proj`, outFeatures: config.hidden_size, bias: config.attention_bias.o }],
    precision,
  );
  return output as Value;
}

/** The given rows of x flattened to [batch · sequence, size]. */
export function gatherRows(graph: Graph, x: Value, rows: Value, size: number): Value {
  return graph.op('Gather', [graph.op('Reshape', [x, graph.int64([-1, size])]), rows], { axis: 0 });
}

/** Reads and extends this layer's cache; past and present are the same memory at run time. */
function cachedAttention(
  graph: Graph,
  q: Value,
  k: Value,
  v: Value,
  layer: number,
  config: DecoderConfig,
  shared: AttentionInputs,
  precision: number,
): Value {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
  const shape = ['batch', kvHeads, 'capacity', headDim];
  const past = (part: string) => graph.input(`past_key_values.${layer}.${part}`, 'float32', shape);
  const [attended, presentKey, presentValue] = graph.ops(
    'CachedAttention',
    [q, k, v, past('key'), past('value'), shared.lastPositions, shared.totalLength],
    {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(headDim ** -0.5),
      window: config.windows[layer] ?? -1,
      precision,
    },
    { domain: SWITCHYARD_DOMAIN, outputs: 3 },
  ) as [Value, Value, Value];
  graph.output(presentKey, `present.${layer}.key`, 'float32', shape);
  graph.output(presentValue, `present.${layer}.value`, 'float32', shape);
  return attended;
}

/** RMSNorm of every head by itself (HF `Qwen3MoeAttention.q_norm`). */
function headNorm(graph: Graph, x: Value, weight: string, heads: number, config: DecoderConfig): Value {
  const { head_dim: headDim, rms_norm_eps: epsilon } = config;
  const split = graph.op('Reshape', [x, graph.int64([0, 0, heads, headDim])]);
  return graph.op('Reshape', [
    rmsNorm(graph, split, weight, headDim, epsilon),
    graph.int64([0, 0, heads * headDim]),
  ]);
}
