import { ELEMENT_TYPES } from '../dtype.ts';
import type { Value } from '../graph/graph.ts';
import type { DynamicRope, LongRope, Rope } from './rope-frequencies.ts';
import type { Scope } from './scope.ts';

const FLOAT = ELEMENT_TYPES.float32.onnx;

/** cos and sin of every position's angles, shared by all layers; each [batch, sequence, head_dim / 2], fp32. */
export interface RotaryTables {
  readonly cos: Value;
  readonly sin: Value;
}

/** Axes of a token's rotary position: its place, and the last place of its sequence where frequencies depend on the length. */
export function positionAxesOf(rope: Rope): number {
  return rope.byLength ? 2 : 1;
}

/**
 * Positions of a prompt on the axes of {@link positionAxesOf}: the prompt runs with the frequencies of its whole length, each token
 * after it with those of the length until then, as when one forward pass takes the prompt and one each token (HF `dynamic_rope_update`).
 */
export function promptPositions(length: number): readonly ArrayLike<number>[] {
  return [[], new Int32Array(length).fill(length - 1)];
}

/** @param positions int64 [batch, sequence], or [2, batch, sequence] where {@link positionAxesOf} says 2 */
export function rotaryTables(g: Scope, rope: Rope, positions: Value): RotaryTables {
  const { byLength, inverseFrequencies, attentionScaling } = rope;
  const axis = (n: number) =>
    byLength ? g.op('Gather', [positions, g.graph.int64([n], [])], { axis: 0 }) : positions;
  const column = g.op('Unsqueeze', [g.op('Cast', [axis(0)], { to: FLOAT }), g.graph.int64([-1])]);
  const plain = frequencies(g, inverseFrequencies);
  const scaled = byLength ? scaledFrequencies(g, byLength, plain, axis(1)) : plain;
  return cosSin(g, g.op('Mul', [column, scaled]), attentionScaling);
}

/** Frequencies of every token. @param last place of its sequence, int64 [batch, sequence] */
function scaledFrequencies(g: Scope, rope: LongRope | DynamicRope, plain: Value, last: Value): Value {
  const column = g.op('Unsqueeze', [last, g.graph.int64([-1])]);
  if (rope.kind === 'longrope') {
    const isLong = g.op('Greater', [column, g.graph.int64([rope.original - 1])]);
    return g.op('Where', [isLong, frequencies(g, rope.inverseFrequencies), plain]);
  }
  const { original, factor, exponents } = rope;
  const number = (value: number) => g.named((graph) => graph.float32([value], []));
  const length = g.op('Add', [g.op('Cast', [column], { to: FLOAT }), number(1)]);
  const beyond = g.op('Max', [length, number(original)]);
  const growth = g.op('Sub', [g.op('Mul', [beyond, number(factor / original)]), number(factor - 1)]);
  return g.op('Mul', [plain, g.op('Pow', [growth, frequencies(g, exponents)])]);
}

/** One number for each rotary pair as a constant, [1, 1, pairs]. */
function frequencies(g: Scope, values: Float32Array): Value {
  return g.named((graph) => graph.float32(values, [1, 1, values.length]));
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
