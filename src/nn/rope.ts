import { ELEMENT_TYPES } from '../dtype.ts';
import type { Value } from '../graph/graph.ts';
import type { DynamicRope, LongRope, Rope } from './rope-frequencies.ts';
import type { Scope } from './scope.ts';

const FLOAT = ELEMENT_TYPES.float32.onnx;

/** cos and sin of every token's angles, shared by all layers; each [tokens, head_dim / 2], fp32. */
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

/**
 * @param positions int64 [axes, tokens]; of the axes of {@link positionAxesOf}, or of `axes`
 * @param axes of which each rotary pair turns with one, for frequencies that do not depend on the length
 */
export function rotaryTables(
  g: Scope,
  rope: Rope,
  positions: Value,
  axes?: { readonly count: number; readonly of: readonly number[] },
): RotaryTables {
  const { byLength, attentionScaling } = rope;
  const angles =
    byLength && !axes
      ? anglesByLength(g, rope, byLength, positions)
      : anglesByAxis(g, rope, positions, axes ?? { count: 1, of: [] });
  const scaled = (value: Value) =>
    attentionScaling === 1
      ? value
      : g.op('Mul', [value, g.named((graph) => graph.float32([attentionScaling], []))]);
  return { cos: scaled(g.op('Cos', [angles])), sin: scaled(g.op('Sin', [angles])) };
}

/**
 * fp32 [tokens, pairs]: each pair's position times its frequency, element by element. A product of matrices would be one node less, and
 * on a GPU round positions to TF32.
 */
function anglesByAxis(
  g: Scope,
  { inverseFrequencies }: Rope,
  positions: Value,
  axes: { readonly count: number; readonly of: readonly number[] },
): Value {
  const { length: pairs } = inverseFrequencies;
  const byToken = g.op('Transpose', [g.op('Cast', [positions], { to: FLOAT })], { perm: [1, 0] });
  const axisOfPair = Array.from({ length: pairs }, (_, pair) => axes.of[pair] ?? 0);
  const byPair =
    axes.count === 1 ? byToken : g.op('Gather', [byToken, g.graph.int64(axisOfPair)], { axis: 1 });
  return g.op('Mul', [byPair, g.named((graph) => graph.float32(inverseFrequencies, [pairs]))]);
}

/** fp32 [tokens, pairs], where frequencies depend on how long a token's sequence is. */
function anglesByLength(
  g: Scope,
  { inverseFrequencies }: Rope,
  rope: LongRope | DynamicRope,
  positions: Value,
): Value {
  const [place, last] = [0, 1].map((axis) =>
    g.op('Unsqueeze', [
      g.op('Gather', [positions, g.graph.int64([axis], [])], { axis: 0 }),
      g.graph.int64([-1]),
    ]),
  ) as [Value, Value];
  const frequencies = scaledFrequencies(g, rope, constantRow(g, inverseFrequencies), last);
  return g.op('Mul', [g.op('Cast', [place], { to: FLOAT }), frequencies]);
}

/** Frequencies of every token, [tokens, pairs]. @param last place of its sequence, int64 [tokens, 1] */
function scaledFrequencies(g: Scope, rope: LongRope | DynamicRope, plain: Value, last: Value): Value {
  if (rope.kind === 'longrope') {
    const isLong = g.op('Greater', [last, g.graph.int64([rope.original - 1])]);
    return g.op('Where', [isLong, constantRow(g, rope.inverseFrequencies), plain]);
  }
  const { original, factor, exponents } = rope;
  const number = (value: number) => g.named((graph) => graph.float32([value], []));
  const length = g.op('Add', [g.op('Cast', [last], { to: FLOAT }), number(1)]);
  const beyond = g.op('Max', [length, number(original)]);
  const growth = g.op('Sub', [g.op('Mul', [beyond, number(factor / original)]), number(factor - 1)]);
  return g.op('Mul', [plain, g.op('Pow', [growth, constantRow(g, exponents)])]);
}

/** One number for each rotary pair, [1, pairs]. */
function constantRow(g: Scope, values: Float32Array): Value {
  return g.named((graph) => graph.float32(values, [1, values.length]));
}

/** Rotates the two halves of each head against each other. @param x fp32 […, heads * head_dim] */
export function rotate(g: Scope, x: Value, { cos, sin }: RotaryTables, heads: number): Value {
  return g.op('RotaryEmbedding', [x, cos, sin], { num_heads: heads });
}
