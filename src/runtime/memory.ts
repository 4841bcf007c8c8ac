/** Memory that there is not. */
import { EngineError } from '../errors.ts';
import { formatBytes } from '../units.ts';

/**
 * A typed array of zeros.
 *
 * @param purpose what it is for, such as `logits of 3 × 512 positions`
 * @param remedy what to ask less of, as a sentence
 * @throws EngineError where there is no room, with what was needed
 */
export function allocate<T extends { readonly BYTES_PER_ELEMENT: number }>(
  array: { new (length: number): T; readonly BYTES_PER_ELEMENT: number },
  length: number,
  purpose: string,
  remedy: string,
): T {
  try {
    return new array(length);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const bytes = length * array.BYTES_PER_ELEMENT;
    throw new EngineError(
      `there is no memory for ${purpose}: ${formatBytes(bytes)} in one piece. ${remedy}`,
      {
        cause,
      },
    );
  }
}

/** How the engine and C++ say that memory is exhausted, with the bytes asked for where they tell. */
const EXHAUSTED = /bad_alloc|failed to allocate memory|cannot allocate/i;
const ASKED = /(?:of size|allocate) (\d+)/i;

/** The message for a failure of the engine's that comes of exhausted memory; undefined for any other. */
export function exhaustedMessage(message: string): string | undefined {
  if (!EXHAUSTED.test(message)) return undefined;
  const bytes = ASKED.exec(message)?.[1];
  const asked = bytes === undefined ? '' : `: ${formatBytes(Number(bytes))} more were asked for`;
  return (
    `the engine found no memory${asked}. Shorten or split the batch, bound the context with maxCacheLength, or raise the limit on ` +
    'the memory of this process (ulimit -v, the container)'
  );
}
