import type { Value } from '../graph/graph.ts';
import type { RotaryTables } from './rope.ts';

export interface KeysValues {
  readonly key: Value;
  readonly value: Value;
}

/** Where a MoE block sent its tokens. */
export interface Routing {
  /** fp32 [batch, sequence, experts] */
  readonly logits: Value;
  /** int32 [batch, sequence, k], best first */
  readonly indices: Value;
  /** fp32 [batch, sequence, k] */
  readonly weights: Value;
}

/** What a layer takes from a pass besides its input, and what it leaves to it. */
export interface LayerPass {
  readonly rotary: RotaryTables;
  /** int32 [batch]: index of each row's newest position. */
  readonly lastPositions: Value;
  /** int32 []: largest number of positions in use, newest included. */
  readonly totalLength: Value;
  /** int32 []: which of the built-in experts backends a run asks for. */
  readonly implementation: Value;
  /** int64 [rows]: flattened positions, where only these are wanted after attention; all of them without it. */
  readonly rows: Value | undefined;
  /** This layer's cache as the pass finds it, each [batch, kv heads, capacity, head dim]. */
  pastKeysValues(): KeysValues;
  /** The same memory with the pass's positions in it. */
  keepKeysValues(present: KeysValues): void;
  /** What goes into this layer, fp32 [batch, sequence, hidden]; for variants that give intermediates. */
  keepHidden(x: Value): void;
  keepRouting(routing: Routing): void;
}
