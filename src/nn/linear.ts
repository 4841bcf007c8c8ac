import type { Graph, Value } from '../graph/graph.ts';

/** One projection of `linear`: y = x · weight^T (+ bias). */
export interface Projection {
  /** Tensor name without `.weight` or `.bias`. */
  readonly name: string;
  readonly outFeatures: number;
  readonly bias: boolean;
}

/**
 * Projections that share their input, in one op that reads the input once.
 * @param x fp32 […, inFeatures]
 * @param precision see `PRECISION`
 * @returns fp32 […, outFeatures] for each projection
 */
export function linear(
  graph: Graph,
  x: Value,
  inFeatures: number,
  projections: readonly Projection[],
  precision: number,
): Value[] {
  const weights = projections.map((p) => graph.weight(`${p.name}.weight`, [p.outFeatures, inFeatures]));
  const biases = projections.map((p) => (p.bias ? graph.weight(`${p.name}.bias`, [p.outFeatures]) : -1));
  return graph.ownOps('Linear', [x], { weights, biases, precision }, projections.length);
}
