import type { Graph, Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import type { ExpertsBackend, ExpertsInputs } from './interface.ts';

/** Values of the `MoeExperts` op's run-time selector; `kernels/common/types.h` has the same numbers. */
export const IMPLEMENTATIONS = ['eager', 'batched_mm', 'grouped_mm'] as const;

/** Names in `graph.shared` of what the built-in backends thread through the graph. */
export const SELECTOR = 'experts_implementation';
export const CALLS = 'experts_calls';

/**
 * The built-in backends are one op whose kernel is picked on every run by a scalar input, so that switching among them
 * needs no other graph. Each passes on the counters of calls with its own raised by one.
 */
export const moeExperts: ExpertsBackend = {
  supports: () => true,

  emit(graph: Graph, { hiddenStates, topKIndices, topKWeights, weights, context }: ExpertsInputs): Value {
    const { numExperts, hiddenSize, intermediateSize, layout } = context;
    const [output, calls] = graph.ownOps(
      'MoeExperts',
      [hiddenStates, topKIndices, topKWeights, graph.shared.get(SELECTOR), graph.shared.get(CALLS)],
      {
        layout,
        num_experts: numExperts,
        hidden: hiddenSize,
        intermediate: intermediateSize,
        gate: weights.gate.map((name) => graph.weights.handle(name)),
        up: weights.up.map((name) => graph.weights.handle(name)),
        down: weights.down.map((name) => graph.weights.handle(name)),
        precision: PRECISION[context.dtype],
      },
      2,
    ) as [Value, Value];
    graph.shared.set(CALLS, calls);
    return output;
  },
};
