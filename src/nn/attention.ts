import { float, type Graph, type Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import { linear } from './linear.ts';
import type { RotaryTables } from './rope.ts';
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
 * Causal grouped-query attention with a KV cache written in place (HF `Qwen2MoeAttention`, `Qwen3MoeAttention`). Where the
 * config has `qk_norm`, every head of queries and keys is normed by itself.
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
  const projected = linear(
    graph,
    x,
    config.hidden_size,
    [project('q_proj', heads), project('k_proj', kvHeads), project('v_proj', kvHeads)],
    precision,
  );
  const attended = cachedAttention(graph, projected, prefix, layer, config, shared, options);
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

/** Norms and rotates queries and keys, extends this layer's cache, whose past and present are the same memory at run time. */
function cachedAttention(
  graph: Graph,
  projected: readonly Value[],
  prefix: string,
  layer: number,
  config: DecoderConfig,
  shared: AttentionInputs,
  options: GraphOptions,
): Value {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
  const shape = ['batch', kvHeads, 'capacity', headDim];
  const dtype = options.device === 'cpu' ? 'float32' : options.dtype;
  const past = (part: string) => graph.input(`past_key_values.${layer}.${part}`, dtype, shape);
  const norm = (name: string) => (config.qk_norm ? graph.weight(`${prefix}.${name}.weight`, [headDim]) : -1);
  const { cos, sin } = shared.rotary;
  const [attended, presentKey, presentValue] = graph.ownOps(
    'CachedAttention',
    [...projected, cos, sin, past('key'), past('value'), shared.lastPositions, shared.totalLength],
    {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(headDim ** -0.5),
      window: config.windows[layer] ?? -1,
      precision: PRECISION[options.dtype],
      q_norm: norm('q_norm'),
      k_norm: norm('k_norm'),
      epsilon: float(config.rms_norm_eps),
    },
    3,
  ) as [Value, Value, Value];
  graph.output(presentKey, `present.${layer}.key`, dtype, shape);
  graph.output(presentValue, `present.${layer}.value`, dtype, shape);
  return attended;
}
