import type { Value } from '../graph/graph.ts';
import type { RotaryTables } from './rope.ts';

export interface KeysValues {
  readonly key: Value;
  readonly value: Value;
}

/** Where a MoE block sent its tokens. */
export interface Routing {
  /** fp32 [tokens, experts] */
  readonly logits: Value;
  /** int32 [tokens, k], best first */
  readonly indices: Value;
  /** fp32 [tokens, k] */
  readonly weights: Value;
}

/** What a layer takes from a pass besides its input, and what it leaves to it. */
export interface LayerPass {
  /** Which layer of the model it is, from 0. */
  readonly layer: number;
  readonly rotary: RotaryTables;
  /** Of the first token of each token's block; of models with a sparse index. */
  readonly blockRotary: RotaryTables | undefined;
  /** int32 [rows + 1]: first token of each row, then the number of tokens. */
  readonly rowStarts: Value;
  /** int32 [rows]: positions of each row that the cache holds before the pass. */
  readonly pastLengths: Value;
  /** int32 [rows, width]: the cache blocks that each row's positions lie in. Of models with layers that keep keys and values. */
  readonly blockTables: Value | undefined;
  /** int32 [rows]: where each row's recurrent states lie. Of models with layers that keep such. */
  readonly stateSlots: Value | undefined;
  /** int32 []: which of the built-in experts backends a run asks for. */
  readonly implementation: Value;
  /** int64 [wanted]: tokens, where only these are wanted after attention; all of them without it. */
  readonly rows: Value | undefined;
  /** This layer's keys and values as the pass finds them, each [blocks, kv heads, positions, head dim]. */
  pastKeysValues(): KeysValues;
  /** The same memory with the pass's positions in it. */
  keepKeysValues(present: KeysValues): void;
  /** What this layer's sparse index keeps of each position, [blocks, 1, positions, width]. */
  pastIndex(): Value;
  keepIndex(present: Value): void;
  /** One of this layer's recurrent states as the pass finds it, fp32 [slots, …]; not to be read for rows without a past. */
  pastState(name: string): Value;
  /** States by name, in the same memory, with what the pass's rows leave in their slots. */
  keepStates(present: Readonly<Record<string, Value>>): void;
  /** What goes into this layer, fp32 [tokens, hidden]; for variants that give intermediates. */
  keepHidden(x: Value): void;
  /** Where its tokens go; for variants that give intermediates, or all but logits for those that give the routing. */
  keepRouting(routing: Routing): void;
}
