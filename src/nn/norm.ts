import { float, type Graph, MICROSOFT_DOMAIN, type Value } from '../graph/graph.ts';

/** x / rms(x) * weight over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467). */
export function rmsNorm(graph: Graph, x: Value, weight: string, size: number, epsilon: number): Value {
  return graph.op('RMSNormalization', [x, graph.vector(weight, [size])], {
    axis: -1,
    epsilon: float(epsilon),
  });
}

/** sum = x + residual; normed = rmsNorm(sum): one pass over both. */
export function addRmsNorm(
  graph: Graph,
  x: Value,
  residual: Value,
  weight: string,
  size: number,
  epsilon: number,
): { normed: Value; sum: Value } {
  const [normed, , , sum] = graph.ops(
    'SkipSimplifiedLayerNormalization',
    [x, residual, graph.vector(weight, [size])],
    { epsilon: float(epsilon) },
    { domain: MICROSOFT_DOMAIN, outputs: [true, false, false, true] },
  );
  return { normed: normed as Value, sum: sum as Value };
}
