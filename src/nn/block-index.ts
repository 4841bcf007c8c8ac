import { float, type Value } from '../graph/graph.ts';
import type { Selection } from './attention.ts';
import { linear } from './linear.ts';
import type { LayerPass } from './pass.ts';
import type { Scope } from './scope.ts';

export interface BlockIndexConfig {
  readonly hidden_size: number;
  readonly rms_norm_eps: number;
  readonly normOffset?: number;
  readonly indexer_n_heads: number;
  readonly indexer_head_dim: number;
  /** Positions that a token sees of complete blocks at most. */
  readonly indexer_budget: number;
  /** Positions of a block. */
  readonly indexer_compress_ratio: number;
}

/**
 * The blocks of positions that each token attends to: those whose mean keys score highest with small heads of the index (HF
 * `Qwen4ExpTextQSAIndexer`).
 * @param g the layer's `indexer`
 * @param x fp32 [tokens, hidden]
 */
export function blockIndex(g: Scope, x: Value, pass: LayerPass, config: BlockIndexConfig): Selection {
  const { indexer_n_heads: heads, indexer_head_dim: dim, indexer_compress_ratio: size } = config;
  const projected = linear(g.at('index_qk_proj'), x, config.hidden_size, (heads + 1) * dim, false);
  const [q, k] = g.ops(
    'Split',
    [projected, g.graph.int64([heads * dim, dim])],
    { axis: 1 },
    { outputs: 2 },
  ) as [Value, Value];
  const { rotary, blockRotary } = pass;
  const [blocks, present] = g.ownOps(
    'BlockIndex',
    [
      ...[q, k, rotary.cos, rotary.sin, blockRotary?.cos, blockRotary?.sin],
      ...[pass.pastIndex(), pass.rowStarts, pass.pastLengths, pass.blockTables],
    ],
    {
      heads,
      block: size,
      top: config.indexer_budget / size,
      q_norm: g.weight('q_layernorm.weight', [dim]),
      k_norm: g.weight('k_layernorm.weight', [dim]),
      epsilon: float(config.rms_norm_eps),
      norm_offset: float(config.normOffset ?? 0),
    },
    2,
  ) as [Value, Value];
  pass.keepIndex(present);
  return { blocks, size };
}
