import type { Chunk } from './batch.ts';
import type { LogitsBuffer } from './logits-buffers.ts';
import type { RunResult } from './runner.ts';
import type { Sequence } from './sequence.ts';
import type { GraphVariant } from './sessions.ts';

/** Chunks of sequences to be computed in one pass, and what is wanted of them. */
export interface PassRequest extends Omit<GraphVariant, 'visual'> {
  readonly chunks: readonly Chunk[];
  /** Whether the logits of a sequence's token at `place` are wanted; ignored without a `logits` head. */
  readonly wanted: (sequence: Sequence, place: number) => boolean;
  /** How many of the highest logits of each wanted token to list; default 0. */
  readonly candidates?: number;
  /** Rows that take the logits; without them the engine makes a tensor. */
  readonly logits?:
    | { readonly buffer: LogitsBuffer; readonly first: number; readonly count: number }
    | undefined;
  /** Name of the experts backend. */
  readonly experts: string;
  /** Of the one that was asked for: what is computed for different ones is not mixed. */
  readonly kind: string;
}

export interface PassResult extends RunResult {
  /** The `count` highest logits of each wanted token, best first: [wanted, count] each. */
  readonly candidates?: {
    readonly count: number;
    readonly values: Float32Array;
    readonly ids: Int32Array;
  };
}
