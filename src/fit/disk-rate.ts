/** How fast the disk gives what memory cannot hold. */
import { open } from 'node:fs/promises';

const PIECE_BYTES = 4 * 2 ** 20;
const MOST_PIECES = 15;
const MOST_MS = 500;

/**
 * Bytes a second of reading pieces of the size of an expert, spread over a file. The median of the pieces, because some may lie in memory
 * already; about half a second, off the event loop.
 * @returns undefined for a file that is too small to tell
 */
export async function measureDiskRate(file: string): Promise<number | undefined> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    if (size < PIECE_BYTES * MOST_PIECES) return undefined;
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    const rates: number[] = [];
    const started = performance.now();
    for (let i = 0; i < MOST_PIECES && performance.now() - started < MOST_MS; i++) {
      // From the end, which was read longest ago, if at all.
      const position = Math.floor(((size - PIECE_BYTES) * (MOST_PIECES - i)) / MOST_PIECES);
      const before = performance.now();
      const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, position);
      rates.push((bytesRead * 1000) / Math.max(0.001, performance.now() - before));
    }
    return rates.sort((a, b) => a - b)[rates.length >> 1];
  } finally {
    await handle.close();
  }
}
