import { float, MICROSOFT_DOMAIN, type Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

export interface NormConfig {
  readonly hidden_size: number;
  readonly rms_norm_eps: number;
  /** Added to every weight: newer families store norms as their distance from 1. */
  readonly normOffset?: number;
}

/** The weight of an RMS norm, as it multiplies. */
function normWeight(g: Scope, size: number, offset = 0): Value {
  const values = (stored: Float32Array) => stored.map((weight) => weight + offset);
  return g.vector('weight', [size], offset === 0 ? {} : { values });
}

/**
 * The sum of x and the residual, and sum / rms(sum) · weight over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467), in one
 * pass over both. Without a residual the sum is x.
 * @param x fp32 […, hidden]
 * @returns the normed sum, and the sum: the residual from here on
 */
export function rmsNorm(
  g: Scope,
  x: Value,
  residual: Value | undefined,
  { hidden_size: hidden, rms_norm_eps, normOffset }: NormConfig,
): [normed: Value, sum: Value] {
  const weight = normWeight(g, hidden, normOffset);
  const epsilon = float(rms_norm_eps);
  if (!residual) return [g.op('RMSNormalization', [x, weight], { axis: -1, epsilon }), x];
  const [normed, , , sum] = g.ops(
    'SkipSimplifiedLayerNormalization',
    [x, residual, weight],
    { epsilon },
    { domain: MICROSOFT_DOMAIN, outputs: [true, false, false, true] },
  );
  return [normed as Value, sum as Value];
}

/**
 * The RMS norm of each of several groups of values, with a weight for every one of them.
 * @param x fp32 [tokens, groups · hidden]
 * @returns fp32 [tokens, groups, hidden]
 */
export function groupedNorm(
  g: Scope,
  x: Value,
  groups: number,
  { hidden_size: hidden, rms_norm_eps, normOffset = 0 }: NormConfig,
): Value {
  const ones = g.named((graph) => graph.float32(new Float32Array(hidden).fill(1)));
  const byGroup = g.op('Reshape', [x, g.graph.int64([0, groups, hidden])]);
  const normed = g.op('RMSNormalization', [byGroup, ones], { axis: -1, epsilon: float(rms_norm_eps) });
  const values = (stored: Float32Array) => stored.map((weight) => weight + normOffset);
  return g.op('Mul', [normed, g.vector('weight', [groups * hidden], { values, shape: [groups, hidden] })]);
}

/** (x − mean) / deviation · weight + bias over the last axis (Ba et al. 2016, arXiv:1607.06450). @param x fp32 […, features] */
export function layerNorm(g: Scope, x: Value, features: number, epsilon: number): Value {
  return g.op('LayerNormalization', [x, g.vector('weight', [features]), g.vector('bias', [features])], {
    axis: -1,
    epsilon: float(epsilon),
  });
}
