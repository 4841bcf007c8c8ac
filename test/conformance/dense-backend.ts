import type { ExpertsBackend, ExpertsInputs, Graph, Value } from '../../src/index.ts';

/**
 * A worked example of an experts backend: standard ONNX nodes only. It sends every token through every expert and weighs
 * the results, with weight zero where an expert was not chosen. Wasteful, but it runs wherever ONNX Runtime does.
 */
export const denseExperts: ExpertsBackend = {
  supports(context) {
    return (
      context.numExperts <= 64 || `it multiplies all experts, and ${context.numExperts} are too many for that`
    );
  },

  emit(graph, inputs) {
    let output: Value | undefined;
    for (let expert = 0; expert < inputs.context.numExperts; expert++) {
      const weighted = graph.op('Mul', [
        expertMlp(graph, inputs, expert),
        expertWeight(graph, inputs, expert),
      ]);
      output = output ? graph.op('Add', [output, weighted]) : weighted;
    }
    return output as Value;
  },
};

/** down(silu(gate x) · up x), fp32 [tokens, hidden] */
function expertMlp(graph: Graph, inputs: ExpertsInputs, expert: number): Value {
  const x = inputs.hiddenStates;
  const { gate, up, down } = expertMatrices(graph, inputs, expert);
  const gated = graph.op('MatMul', [x, gate]);
  const silu = graph.op('Mul', [gated, graph.op('Sigmoid', [gated])]);
  return graph.op('MatMul', [graph.op('Mul', [silu, graph.op('MatMul', [x, up])]), down]);
}

/** The sum of the weights of those choices that picked this expert, fp32 [tokens, 1]. */
function expertWeight(
  graph: Graph,
  { topKIndices, topKWeights, context }: ExpertsInputs,
  expert: number,
): Value {
  const chosen = graph.op('Cast', [graph.op('Equal', [topKIndices, graph.int32([expert], [])])], { to: 1 });
  // A product with ones sums over k; ONNX Runtime's ReduceSum loses the shape when there are zero tokens.
  const ones = graph.float32(new Float32Array(context.topK).fill(1), [context.topK, 1]);
  return graph.op('MatMul', [graph.op('Mul', [chosen, topKWeights]), ones]);
}

/** An expert's matrices as right-hand sides of MatMul: [in, out], whatever the layout on disk. */
function expertMatrices(graph: Graph, { weights, context }: ExpertsInputs, expert: number) {
  const { numExperts: experts, hiddenSize: hidden, intermediateSize: intermediate, layout } = context;
  if (layout === 'separate') {
    const matrix = (name: string | undefined, shape: number[]) =>
      graph.op('Transpose', [graph.value(name as string, shape)], { perm: [1, 0] });
    return {
      gate: matrix(weights.gate[expert], [intermediate, hidden]),
      up: matrix(weights.up[expert], [intermediate, hidden]),
      down: matrix(weights.down[expert], [hidden, intermediate]),
    };
  }
  const transposed = layout === 'fused_transposed';
  const slice = (name: string | undefined, shape: number[]) => {
    const one = graph.op('Gather', [graph.value(name as string, shape), graph.int64([expert], [])], {
      axis: 0,
    });
    return transposed ? one : graph.op('Transpose', [one], { perm: [1, 0] });
  };
  const wide = transposed ? [experts, hidden, 2 * intermediate] : [experts, 2 * intermediate, hidden];
  const [gate, up] = graph.ops(
    'Split',
    [slice(weights.gate[0], wide)],
    { axis: 1, num_outputs: 2 },
    { outputs: 2 },
  ) as [Value, Value];
  const down = slice(
    weights.down[0],
    transposed ? [experts, intermediate, hidden] : [experts, hidden, intermediate],
  );
  return { gate, up, down };
}
