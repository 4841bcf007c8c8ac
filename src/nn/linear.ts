import type { Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

/** One projection of `linear`: y = x · weight^T (+ bias). */
export interface Projection {
  /** Tensor name below the scope, without `.weight` or `.bias`. */
  readonly name: string;
  readonly outFeatures: number;
  readonly bias: boolean;
}

/**
 * Projections that share their input, in one op that reads the input once.
 * @param x fp32 […, inFeatures]
 * @returns fp32 […, outFeatures] for each projection
 */
export function linears(g: Scope, x: Value, inFeatures: number, projections: readonly Projection[]): Value[] {
  const weights = projections.map((p) => g.weight(`${p.name}.weight`, [p.outFeatures, inFeatures]));
  const biases = projections.map((p) => (p.bias ? g.weight(`${p.name}.bias`, [p.outFeatures]) : -1));
  return g.ownOps('Linear', [x], { weights, biases, ...g.computing }, projections.length);
}

/**
 * y = x · weight^T (+ bias), with the scope's `weight` and `bias`.
 * @param x fp32 […, inFeatures]
 * @returns fp32 […, outFeatures]
 */
export function linear(g: Scope, x: Value, inFeatures: number, outFeatures: number, bias: boolean): Value {
  const weights = [g.weight('weight', [outFeatures, inFeatures])];
  const biases = [bias ? g.weight('bias', [outFeatures]) : -1];
  return g.ownOps('Linear', [x], { weights, biases, ...g.computing })[0] as Value;
}
