import { once } from 'node:events';

/** How a process is asked to end in order; Windows knows no SIGTERM, but Ctrl-Break. */
export const END = process.platform === 'win32' ? 'SIGBREAK' : 'SIGTERM';

/** Resolves on {@link END}, or when the run is stopped. */
export async function ending(stop: AbortSignal): Promise<void> {
  const over = new AbortController();
  try {
    if (stop.aborted) return;
    await Promise.race([
      once(process, END, { signal: over.signal }),
      once(stop, 'abort', { signal: over.signal }),
    ]);
  } finally {
    over.abort();
  }
}
