import type { Graph, Value } from '../graph/graph.ts';
import type { ExpertsBackend, ExpertsInputs, ExpertsWeights } from './interface.ts';

/** Keys in `graph.shared`: the run-time selector (int32 []) and the calls made so far by each kernel (int64 [3]). */
export const EXPERTS_SELECTOR = 'experts_implementation';
export const EXPERTS_CALLS = 'experts_calls';

/** Values of the selector: `ExpertsImplementation` in `kernels/common/types.h`. */
export const SELECTOR = { eager: 0, batched_mm: 1, grouped_mm: 2 } as const;

/**
 * The backends that share the `MoeExperts` op. Each emits the same node; which kernel runs is read from the selector on
 * every run, so that switching needs no new graph.
 */
export const moeExperts: ExpertsBackend = {
  supports: () => true,
  emit(graph: Graph, inputs: ExpertsInputs): Value {
    const { context } = inputs;
    const selector = graph.shared.get(EXPERTS_SELECTOR);
    const calls = graph.shared.get(EXPERTS_CALLS);
    const [output, counted] = graph.ownOps(
      'MoeExperts',
      [inputs.hiddenStates, inputs.topKIndices, inputs.topKWeights, selector, calls],
      {
        ...handles(graph, inputs),
        layout: context.layout,
        num_experts: context.numExperts,
        hidden: context.hiddenSize,
        intermediate: context.intermediateSize,
        precision: context.dtype === 'bfloat16' ? 1 : 0,
      },
      2,
    );
    graph.shared.set(EXPERTS_CALLS, counted as Value);
    return output as Value;
  },
};

function handles(graph: Graph, { weights, context }: ExpertsInputs): Record<keyof ExpertsWeights, number[]> {
  const { numExperts: E, hiddenSize: H, intermediateSize: I } = context;
  const shapes = {
    separate: { gate: [I, H], up: [I, H], down: [H, I] },
    fused: { gate: [E, 2 * I, H], up: [], down: [E, H, I] },
    fused_transposed: { gate: [E, H, 2 * I], up: [], down: [E, I, H] },
  }[context.layout];
  return {
    gate: weights.gate.map((name) => graph.weight(name, shapes.gate)),
    up: weights.up.map((name) => graph.weight(name, shapes.up)),
    down: weights.down.map((name) => graph.weight(name, shapes.down)),
  };
}
