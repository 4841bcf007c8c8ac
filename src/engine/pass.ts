/** One pass of a batch through the decoder, and what its graph is fed. */
import { IMPLEMENTATIONS } from '../experts/moe-op.ts';
import * as io from '../models/io.ts';
import type { Variant } from '../nn/scope.ts';
import { Tensor } from '../runtime/ort.ts';
import type { CacheTensors } from './cache/kv-cache.ts';
import { type Prompt, positionAt } from './sequence.ts';

export type Head = Variant['head'];

/** What distinguishes one graph of a loaded model from another. */
export type GraphVariant = Pick<Variant, 'head' | 'intermediates' | 'visual'>;

export interface DecoderPass extends GraphVariant {
  /** [rows][sequence]; all rows of one length. */
  readonly inputIds: readonly (readonly number[])[];
  /** The prompts the rows belong to, for their rotary positions. */
  readonly prompts: readonly Prompt[];
  /** Cache position of the first token of every row. */
  readonly starts: readonly number[];
  /** Real tokens of each row; the rest of the row is filler after them. */
  readonly lengths: readonly number[];
  /** Flattened positions whose logits are wanted; ignored without a `logits` head. */
  readonly logitsRows: readonly number[];
  /** How many of the highest logits of each wanted position to list; 0: no list. */
  readonly candidates?: number | undefined;
  /** Takes the logits, fp32 [wanted positions, vocab]; without it the engine makes a tensor. */
  readonly logits?: Tensor | undefined;
  /** Past and present by `layer.key` and `layer.value`. */
  readonly cache: CacheTensors;
  /** Name of the experts backend. */
  readonly experts: string;
  /** Inputs of the `visual` variant. */
  readonly visualFeeds?: Readonly<Record<string, Tensor>> | undefined;
}

export interface DecoderPassResult {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** MoE layers executed in this pass, by experts backend. */
  readonly expertsCalls: Readonly<Record<string, number>>;
}

/** Tokens of a pass and where they stand. */
export interface PassTokens {
  /** int64 [rows, sequence] */
  readonly ids: BigInt64Array;
  /** Rotary positions, int64 [axes, rows, sequence]. */
  readonly positions: BigInt64Array;
  /** Cache position of the last real token, int32 [rows]. */
  readonly lastPositions: Int32Array;
}

/** @param axes rotary positions of a token: 3 with pictures, else 1 */
export function passTokens({ inputIds, prompts, starts, lengths }: DecoderPass, axes: number): PassTokens {
  const rows = inputIds.length;
  const sequence = inputIds[0]?.length ?? 0;
  const ids = new BigInt64Array(rows * sequence);
  const positions = new BigInt64Array(axes * rows * sequence);
  const lastPositions = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const start = starts[row] as number;
    const prompt = prompts[row] as Prompt;
    for (let i = 0; i < sequence; i++) {
      ids[row * sequence + i] = BigInt((inputIds[row] as readonly number[])[i] as number);
      for (let axis = 0; axis < axes; axis++)
        positions[(axis * rows + row) * sequence + i] = BigInt(positionAt(prompt, start + i, axis));
    }
    lastPositions[row] = start + (lengths[row] as number) - 1;
  }
  return { ids, positions, lastPositions };
}

/** All inputs of the pass's graph. */
export function passFeeds(pass: DecoderPass, axes: number): Record<string, Tensor> {
  const rows = pass.inputIds.length;
  const sequence = pass.inputIds[0]?.length ?? 0;
  const { ids, positions, lastPositions } = passTokens(pass, axes);
  const total = Math.max(...pass.starts) + sequence;
  const feeds: Record<string, Tensor> = {
    [io.INPUT_IDS.name]: new Tensor('int64', ids, [rows, sequence]),
    [io.positionIds(axes).name]: new Tensor('int64', positions, positionDims(axes, rows, sequence)),
    [io.LAST_POSITIONS.name]: new Tensor('int32', lastPositions, [rows]),
    [io.TOTAL_LENGTH.name]: new Tensor('int32', Int32Array.of(total), []),
    [io.EXPERTS_IMPLEMENTATION.name]: new Tensor('int32', Int32Array.of(selectorOf(pass.experts)), []),
  };
  if (pass.head === 'logits') {
    const wanted = BigInt64Array.from(pass.logitsRows, BigInt);
    feeds[io.LOGITS_ROWS.name] = new Tensor('int64', wanted, [wanted.length]);
    feeds[io.CANDIDATES.name] = new Tensor('int32', Int32Array.of(pass.candidates ?? 0), []);
  }
  for (const [name, tensor] of Object.entries(pass.cache)) feeds[io.pastName(name)] = tensor;
  return { ...feeds, ...pass.visualFeeds };
}

/** Dimensions of the rotary positions of a rectangle of tokens. */
export function positionDims(axes: number, rows: number, sequence: number): number[] {
  return axes === 1 ? [rows, sequence] : [axes, rows, sequence];
}

/** Whether a pass is one new token a row with logits that stay on a device: such passes can be recorded. */
export function isDeviceStep({ head, intermediates, visual, inputIds, logits }: DecoderPass): boolean {
  const isPlain = head === 'logits' && !intermediates && !visual;
  return isPlain && inputIds[0]?.length === 1 && logits?.location === 'gpu-buffer';
}

/** Value of the experts selector; without effect for a registered backend, which is nodes of its own. */
export function selectorOf(experts: string): number {
  return Math.max(0, (IMPLEMENTATIONS as readonly string[]).indexOf(experts));
}
