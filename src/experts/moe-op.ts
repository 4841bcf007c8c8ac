import type { Graph, Value } from '../graph/graph.ts';
import { computing } from '../graph/precision.ts';
import type { ExpertsBackend, ExpertsInputs } from './interface.ts';

/**
 * The built-in backends; a name's place is the value of the op's run-time selector, as in `kernels/common/types.h`.
 *
 * - `eager` loops over the experts that have tokens, in ascending order, one GEMM each, and adds every expert's share to the
 *   output before the next: the reference (HF `Qwen2MoeExperts.forward`). On a GPU: `kernels/cuda/moe/moe_eager.cc`.
 * - `batched_mm` multiplies every pair of token and expert on its own and sums once over the k choices; best for few tokens
 *   (HF `integrations/moe.py`, `batched_mm_experts_forward`). On a GPU: `kernels/cuda/moe/moe_batched_mm.cu`.
 * - `grouped_mm` sorts the pairs by expert, multiplies each expert's group in one grouped GEMM, and sums once over the k
 *   choices; the default (HF `integrations/moe.py`, `grouped_mm_experts_forward`). On a GPU: `kernels/cuda/moe/moe_grouped.cc`.
 *
 * On the CPU all three are in `kernels/cpu/moe_experts.cc`.
 */
export const IMPLEMENTATIONS = ['eager', 'batched_mm', 'grouped_mm'] as const;
export type BuiltInBackend = (typeof IMPLEMENTATIONS)[number];

/** Asks for whichever of {@link IMPLEMENTATIONS} was measured to be fastest for the tokens of each pass; no backend itself. */
export const AUTO = 'auto';

/** Handles of an MLP that all tokens go to: gate and up [its own width, H], down [H, its own width], outputGate [1, H]. */
export interface SharedExpert {
  readonly gate: number;
  readonly up: number;
  readonly down: number;
  /** Its product with x, through a sigmoid, scales what the MLP gives. */
  readonly outputGate: number;
}

/**
 * The built-in backends are one op whose kernel is picked on every run by a scalar input, so that switching among them
 * needs no other graph. Sessions count its calls.
 */
export const moeExperts: ExpertsBackend = {
  supports: () => true,

  emit: (graph: Graph, inputs: ExpertsInputs) => emitOp(graph, inputs, {}),
};

/**
 * The same with a shared expert, whose share is added last. On the CPU only. In one op, because that expert meets all tokens and keeps
 * the multipliers busy while the routed ones, with few tokens each, wait for memory.
 */
export function emitWithShared(graph: Graph, inputs: ExpertsInputs, shared: SharedExpert): Value {
  const { gate, up, down, outputGate } = shared;
  return emitOp(graph, inputs, {
    ...{ shared_gate: gate, shared_up: up, shared_down: down },
    shared_output_gate: outputGate,
  });
}

function emitOp(graph: Graph, inputs: ExpertsInputs, shared: Readonly<Record<string, number>>): Value {
  const { hiddenStates, topKIndices, topKWeights, implementation, weights, context } = inputs;
  const { numExperts, hiddenSize, intermediateSize, layout } = context;
  const [output] = graph.ownOps(
    'MoeExperts',
    [hiddenStates, topKIndices, topKWeights, implementation],
    {
      layout,
      num_experts: numExperts,
      hidden: hiddenSize,
      intermediate: intermediateSize,
      gate: weights.gate.map((name) => graph.weights.handle(name)),
      up: weights.up.map((name) => graph.weights.handle(name)),
      down: weights.down.map((name) => graph.weights.handle(name)),
      ...shared,
      ...computing(context.dtype, context.int8Activations),
    },
    1,
  ) as [Value];
  return output;
}
