import { ELEMENT_TYPES } from '../dtype.ts';
import type { Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

const FLOAT = ELEMENT_TYPES.float32.onnx;

/** Rotary position embedding, reduced to what the computation needs. */
export interface Rope {
  /** Rotation per position of each pair, fp32, [head_dim / 2]. */
  readonly inverseFrequencies: Float32Array;
  /** Factor on cos and sin; 1 except for yarn. */
  readonly attentionScaling: number;
}

export const ROPE_TYPES = ['default', 'linear', 'yarn'] as const;
export type RopeType = (typeof ROPE_TYPES)[number];

export interface RopeParameters {
  rope_type: RopeType;
  rope_theta: number;
  factor?: number | undefined;
  original_max_position_embeddings?: number | undefined;
  attention_factor?: number | undefined;
  mscale?: number | undefined;
  mscale_all_dim?: number | undefined;
  beta_fast?: number | undefined;
  beta_slow?: number | undefined;
  truncate?: boolean | undefined;
}

/**
 * Frequencies of a rope variant over `headDim` dimensions (HF `modeling_rope_utils.py`; yarn: Peng et al. 2023,
 * arXiv:2309.00071).
 */
export function computeRope(parameters: RopeParameters, headDim: number, maxPositions: number): Rope {
  const { rope_type: type, rope_theta: theta, factor = 1 } = parameters;
  const pairs = headDim / 2;
  // HF computes the frequencies in fp32; rounding after each step keeps ours bit-equal or one unit off.
  const base = Float32Array.from(
    { length: pairs },
    (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / headDim)),
  );
  if (type === 'default') return { inverseFrequencies: base, attentionScaling: 1 };
  if (type === 'linear') return { inverseFrequencies: base.map((f) => f / factor), attentionScaling: 1 };
  return {
    inverseFrequencies: yarnFrequencies(parameters, base, headDim, maxPositions),
    attentionScaling: yarnScaling(parameters),
  };
}

/** Interpolates slow rotations by `factor`, keeps fast ones, and blends linearly between the two. */
function yarnFrequencies(
  parameters: RopeParameters,
  base: Float32Array,
  headDim: number,
  maxPositions: number,
): Float32Array {
  const { factor = 1, rope_theta: theta, truncate = true } = parameters;
  const original = parameters.original_max_position_embeddings ?? maxPositions;
  const dimensionOf = (rotations: number) =>
    (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(parameters.beta_fast ?? 32);
  let high = dimensionOf(parameters.beta_slow ?? 1);
  if (truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, headDim - 1);
  if (low === high) high += 0.001;
  return base.map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * interpolated + frequency * (1 - interpolated);
  });
}

function yarnScaling(parameters: RopeParameters): number {
  const { factor = 1, mscale, mscale_all_dim: mscaleAllDim } = parameters;
  if (parameters.attention_factor !== undefined) return parameters.attention_factor;
  const scale = (m: number) => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
  return mscale && mscaleAllDim ? scale(mscale) / scale(mscaleAllDim) : scale(1);
}

/** cos and sin of every position's angles, shared by all layers; each [batch, sequence, head_dim / 2], fp32. */
export interface RotaryTables {
  readonly cos: Value;
  readonly sin: Value;
}

/** @param positions int64 [batch, sequence] */
export function rotaryTables(g: Scope, rope: Rope, positions: Value): RotaryTables {
  const column = g.op('Unsqueeze', [g.op('Cast', [positions], { to: FLOAT }), g.graph.int64([-1])]);
  const { length: pairs } = rope.inverseFrequencies;
  const frequencies = g.named((graph) => graph.float32(rope.inverseFrequencies, [1, 1, pairs]));
  return cosSin(g, g.op('Mul', [column, frequencies]), rope.attentionScaling);
}

/**
 * Tables where each rotary pair turns with an axis of its own.
 * @param axes of each pair, below `count`
 * @param positions int64 [count, batch, sequence]
 */
export function rotaryTablesByAxis(
  g: Scope,
  { inverseFrequencies, attentionScaling }: Rope,
  axes: readonly number[],
  count: number,
  positions: Value,
): RotaryTables {
  const { length: pairs } = inverseFrequencies;
  // One product spreads the axes over the pairs; each column has a single nonzero, so nothing is rounded.
  const spread = new Float32Array(count * pairs);
  for (const [j, axis] of axes.entries()) spread[axis * pairs + j] = inverseFrequencies[j] as number;
  const last = g.op('Transpose', [g.op('Cast', [positions], { to: FLOAT })], { perm: [1, 2, 0] });
  const weights = g.named((graph) => graph.float32(spread, [count, pairs]));
  return cosSin(g, g.op('MatMul', [last, weights]), attentionScaling);
}

/** @param angles fp32 [batch, sequence, head_dim / 2] */
function cosSin(g: Scope, angles: Value, scaling: number): RotaryTables {
  const scaled = (value: Value) =>
    scaling === 1 ? value : g.op('Mul', [value, g.named((graph) => graph.float32([scaling], []))]);
  return { cos: scaled(g.op('Cos', [angles])), sin: scaled(g.op('Sin', [angles])) };
}

/** Rotates the two halves of each head against each other. @param x fp32 [batch, sequence, heads * head_dim] */
export function rotate(g: Scope, x: Value, { cos, sin }: RotaryTables, heads: number): Value {
  return g.op('RotaryEmbedding', [x, cos, sin], { num_heads: heads });
}
