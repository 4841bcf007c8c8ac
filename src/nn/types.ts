import type { ExpertsBackend } from '../experts/interface.ts';
import type { DType } from '../graph/precision.ts';
import type { Rope } from './rope.ts';

/** What the layers need to know of a text decoder, whatever the architecture calls it. */
export interface DecoderConfig {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
  readonly intermediate_size: number;
  readonly moe_intermediate_size: number;
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
  readonly norm_topk_prob: boolean;
  readonly rope: Rope;
  /** Which of the attention projections have a bias. */
  readonly attention_bias: { readonly qkv: boolean; readonly o: boolean };
  /** RMSNorm over head_dim on queries and keys, before the rotary embedding. */
  readonly qk_norm: boolean;
  /** Per layer: MoE block (true) or dense MLP (false). */
  readonly moe_layers: readonly boolean[];
  /** Per layer: sliding window in tokens, or undefined for full attention. */
  readonly windows: readonly (number | undefined)[];
  /** Precision the checkpoint declares, if any. */
  readonly dtype: DType | undefined;
}

/** How one graph of a model differs from another. */
export interface GraphOptions {
  readonly device: 'cpu' | 'cuda';
  readonly dtype: DType;
  /** The experts backend of the text model. */
  readonly experts: ExpertsBackend;
  /** What leaves the graph: `logits` [rows, vocab] of chosen positions, or `last_hidden_state` [batch, sequence, hidden]. */
  readonly head: 'logits' | 'last_hidden_state';
  /** Adds outputs `hidden_states.N`, `router_logits.N`, `router_indices.N` and `router_weights.N`. */
  readonly intermediates: boolean;
  /** Takes image features beside the token ids. */
  readonly visual: boolean;
}
