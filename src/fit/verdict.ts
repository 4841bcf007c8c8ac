/** Whether a model fits a machine, and how fast it can be there. Pure arithmetic. */
import type { Needs } from './needs.ts';

/** What there is. */
export interface Resources {
  /** Bytes of memory for this process. */
  readonly memory: number;
  /** Bytes a second that all threads read from memory. */
  readonly memoryRate?: number | undefined;
  /** Bytes a second that the disk of the weights gives. */
  readonly diskRate?: number | undefined;
}

export interface Verdict {
  /** Whether all weights stay in memory once they are read, beside cache and activations. */
  readonly fits: boolean;
  /** Bytes of a token's weights that come from disk, on average, once memory is full. */
  readonly fromDisk: number;
  /** Tokens a second to expect of decoding, as far as the rates are known. */
  readonly tokensPerSecond?: number;
}

/** Of the best rate of reading memory, decoding reaches so much: 0.85 to 0.88 where it was measured. */
const DECODE_SHARE = 0.86;

/**
 * Weights that every token reads stay in memory first; experts share what room is left, whichever they are.
 */
export function judge(needs: Needs, { memory, memoryRate, diskRate }: Resources): Verdict {
  const room = memory - needs.cache - needs.working;
  const constant = needs.token - needs.routedToken;
  const fits = needs.weights <= room;
  const roomForExperts = Math.max(0, room - constant);
  const missing = fits || needs.routed === 0 ? 0 : Math.max(0, 1 - roomForExperts / needs.routed);
  const constantMissing = fits ? 0 : Math.max(0, constant - Math.max(0, room));
  const fromDisk = Math.round(needs.routedToken * missing + constantMissing);
  if (memoryRate === undefined || (fromDisk > 0 && diskRate === undefined)) return { fits, fromDisk };
  const seconds =
    needs.token / (memoryRate * DECODE_SHARE) + (fromDisk > 0 ? fromDisk / (diskRate as number) : 0);
  return { fits, fromDisk, tokensPerSecond: 1 / seconds };
}
