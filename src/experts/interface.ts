import type { DType, WeightDType } from '../dtype.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';

/** Where a MoE layer runs and how its experts lie in the checkpoint; what a backend decides on. */
export interface ExpertsContext {
  readonly device: 'cpu' | 'cuda';
  /** Precision of the computation. Activations are fp32 values whatever it says. */
  readonly dtype: DType;
  /** Type of the stored weights; of quantized ones `F32`, as which `graph.value` gives them. */
  readonly weightDtype: WeightDType;
  /**
   * How weights are stored that are quantized: what a code is, such as `uint` or `float8_e4m3`, and its bits. A backend that reads weights
   * through `graph.value` gets matrices dequantized, at 4 bytes a weight, and of fused layouts nothing; one for which that will not do
   * refuses.
   */
  readonly quantized?: { readonly type: string; readonly bits: number };
  /** Whether activations that meet codes of integers may be rounded to int8, as the caller asked for. */
  readonly int8Activations?: boolean;
  /**
   * `separate`: a matrix each, gate and up [I,H], down [H,I]. `fused`: gate‖up [E,2I,H], down [E,H,I].
   * `fused_transposed`: gate‖up [E,H,2I], down [E,I,H].
   */
  readonly layout: 'separate' | 'fused' | 'fused_transposed';
  readonly numExperts: number;
  /** Experts a token is routed to. */
  readonly topK: number;
  /** H: width of the hidden states. */
  readonly hiddenSize: number;
  /** I: width between an expert's up and down projection. */
  readonly intermediateSize: number;
}

/** Names of the tensors of one layer's experts, in the order of the experts. */
export interface ExpertsWeights {
  /** `separate`: E gate matrices; fused layouts: the one gate‖up tensor, first half gate. */
  readonly gate: readonly string[];
  /** `separate`: E up matrices; fused layouts: empty. */
  readonly up: readonly string[];
  /** `separate`: E down matrices; fused layouts: the one down tensor. */
  readonly down: readonly string[];
}

/** What crosses the seam between a model and its experts. Routing has happened: the router stays in the model. */
export interface ExpertsInputs {
  /** fp32 [tokens, H]. */
  readonly hiddenStates: Value;
  /** int32 [tokens, k]: the chosen experts, each in 0 ≤ e < E, no expert twice in a row. */
  readonly topKIndices: Value;
  /** fp32 [tokens, k]: the weight of each choice, already normalised where the model does so. */
  readonly topKWeights: Value;
  /** int32 []: which of the built-in backends a run asks for. Another backend has no use for it. */
  readonly implementation: Value;
  readonly weights: ExpertsWeights;
  readonly context: ExpertsContext;
}

/**
 * One way to execute the experts of a MoE layer: Σₖ weightₖ · downₑ(silu(gateₑ·x) ⊙ upₑ·x), with e the k-th choice.
 * Counterpart of a function in transformers' `ExpertsInterface` (integrations/moe.py).
 */
export interface ExpertsBackend {
  /** True, or the reason why this backend cannot serve the context, as a clause the user is shown. */
  supports(context: ExpertsContext): true | string;
  /** Adds this backend's nodes to the graph. Returns fp32 [tokens, H]. Called once a MoE layer. */
  emit(graph: GraphBuilder, inputs: ExpertsInputs): Value;
}
