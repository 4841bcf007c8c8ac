/** How large slabs are to be, and making them smaller. */
import type { Slab } from './slab.ts';

/** Whether a slab has many more pieces than are in use. */
export function isLoose({ size, free }: Slab, idle: number): boolean {
  return size > idle + 2 * (size - free);
}

/**
 * Makes a slab no larger than `size` pieces, or than what is in use.
 * @param renumber told the new number of each piece, once it counts
 */
export async function tighten(
  slab: Slab,
  size: number,
  renumber: (numberOf: (piece: number) => number) => void,
): Promise<void> {
  const kept = slab.size - slab.free;
  if (slab.size <= Math.max(size, kept)) return;
  if (kept === 0) slab.clear();
  else await slab.shrink(Math.max(size, kept), (moves) => renumber((piece) => moves.get(piece) ?? piece));
}

/** How large a slab shall be that is to hold little more than what is in use. */
export function trimmed(slab: Slab, idle: number): number {
  const kept = slab.size - slab.free;
  return isLoose(slab, idle) ? kept + Math.min(idle, kept) : slab.size;
}

/** How large to make a slab that is to hold `needed` pieces, of which there will be `most` at most. */
export function grown(size: number, needed: number, most: number, first: number): number {
  // Some more than is needed now: the next token should not move all that a long prompt has just filled.
  const wanted = Math.max(2 * size, needed + Math.ceil(needed / 16), first);
  return Math.max(needed, Math.min(wanted, most));
}

/** So many pieces of a slab in pieces of another that take as much memory at least. */
export function inPieces(count: number, { pieceBytes }: Slab, other: Slab): number {
  return other.pieceBytes === 0 ? 0 : Math.ceil((count * pieceBytes) / other.pieceBytes);
}
