import { float, type Value } from '../graph/graph.ts';
import type { CacheSpec } from './cache-spec.ts';
import { gatherRows } from './embedding.ts';
import { linear, linears } from './linear.ts';
import type { LayerPass } from './pass.ts';
import type { Scope } from './scope.ts';

export interface AttentionConfig {
  readonly hidden_size: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly rms_norm_eps: number;
  /** Added to the weights of the heads' norms; see `NormConfig`. */
  readonly normOffset?: number;
}

/** In what the attention of one family differs from that of another. */
export interface AttentionOptions {
  /** Biases of the query, key and value projections, and of the output projection. */
  readonly bias: { readonly qkv: boolean; readonly o: boolean };
  /** RMS norm over head_dim on every head of queries and keys, before the rotary embedding. */
  readonly headNorm: boolean;
  /** Sliding window in positions; without it every position sees all before it. */
  readonly window: number | undefined;
  /** The blocks of positions that each token sees, of a sparse index; without it tokens see all. */
  readonly selection?: Selection;
  /** Whether `q_proj` gives each head a gate behind its query: its sigmoid scales what the head has attended to. */
  readonly gated?: boolean;
}

/** Which blocks of positions tokens see, besides those behind the last complete one. */
export interface Selection {
  /** int32 [tokens, blocks], ascending; -1 for tokens that see all. */
  readonly blocks: Value;
  /** Positions of a block. */
  readonly size: number;
}

/** What a layer of attention keeps. */
export function attentionCache(config: AttentionConfig, window?: number): CacheSpec {
  const sizes = { kvHeads: config.num_key_value_heads, headDim: config.head_dim };
  return { kind: 'keys_values', ...sizes, ...(window === undefined ? {} : { window }) };
}

/**
 * Causal grouped-query attention over a cache that is written in place (HF `Qwen2MoeAttention`, `Qwen3MoeAttention`,
 * `Qwen3NextAttention`).
 * @param x fp32 [tokens, hidden]
 * @returns fp32 [tokens, hidden], or [wanted, hidden] of the tokens that the pass wants
 */
export function attention(
  g: Scope,
  x: Value,
  pass: LayerPass,
  config: AttentionConfig,
  options: AttentionOptions,
): Value {
  const { hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim } = config;
  const project = (name: string, count: number) => ({
    name,
    outFeatures: count * head_dim,
    bias: options.bias.qkv,
  });
  const { gated = false } = options;
  const projections = [
    project('q_proj', gated ? 2 * heads : heads),
    project('k_proj', kvHeads),
    project('v_proj', kvHeads),
  ];
  const [q, k, v] = linears(g, x, hidden, projections) as [Value, Value, Value];
  const [queries, gates] = gated ? splitHeads(g, q, heads, head_dim) : [q];
  let attended = cachedAttention(g, [queries, k, v], pass, config, options);
  if (gates) attended = g.op('Mul', [attended, g.op('Sigmoid', [gates])]);
  const wanted = pass.rows ? gatherRows(g, attended, pass.rows) : attended;
  return linear(g.at('o_proj'), wanted, heads * head_dim, hidden, options.bias.o);
}

/** Queries and gates, which `q_proj` gives head by head; each fp32 [tokens, heads · headDim]. */
function splitHeads(g: Scope, q: Value, heads: number, headDim: number): [queries: Value, gates: Value] {
  const byHead = g.op('Reshape', [q, g.graph.int64([0, heads, 2 * headDim])]);
  const parts = g.ops('Split', [byHead], { axis: 2, num_outputs: 2 }, { outputs: 2 });
  const flat = g.graph.int64([0, heads * headDim]);
  return parts.map((part) => g.op('Reshape', [part, flat])) as [Value, Value];
}

/** Norms and rotates queries and keys, and extends this layer's cache: past and present are the same memory at run time. */
function cachedAttention(
  g: Scope,
  projected: readonly Value[],
  pass: LayerPass,
  config: AttentionConfig,
  { headNorm, window, selection }: AttentionOptions,
): Value {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
  const past = pass.pastKeysValues();
  const norm = (name: string) => (headNorm ? g.weight(`${name}.weight`, [headDim]) : -1);
  const { cos, sin } = pass.rotary;
  const [attended, key, value] = g.ownOps(
    'CachedAttention',
    [
      ...[...projected, cos, sin, past.key, past.value, pass.rowStarts, pass.pastLengths, pass.blockTables],
      ...(selection ? [selection.blocks] : []),
    ],
    {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(headDim ** -0.5),
      window: window ?? -1,
      precision: g.precision,
      q_norm: norm('q_norm'),
      k_norm: norm('k_norm'),
      epsilon: float(config.rms_norm_eps),
      ...(config.normOffset ? { norm_offset: float(config.normOffset) } : {}),
      ...(selection ? { selected_block: selection.size } : {}),
    },
    3,
  ) as [Value, Value, Value];
  pass.keepKeysValues({ key, value });
  return attended;
}
