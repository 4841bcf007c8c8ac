import { onAbort } from '../../errors.ts';

/** Shares one run among all who ask; a failed one may be asked again. */
export function once<T>(runs: Map<string, Promise<T>>, key: string, run: () => Promise<T>): Promise<T> {
  let running = runs.get(key);
  if (running === undefined) {
    running = run();
    runs.set(key, running);
    running.catch(() => runs.delete(key));
  }
  return running;
}

/**
 * As `Promise.all` over `names`, but the first failure ends the other tasks through the signal they are given, and it rejects
 * only when nothing is running any more.
 */
export async function together<T>(
  signal: AbortSignal | undefined,
  names: readonly string[],
  task: (name: string, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const group = new AbortController();
  const end = () => group.abort(signal?.reason);
  if (signal?.aborted) end();
  const stop = onAbort(signal, end);
  let failure: unknown;
  const running = names.map(async (name) => {
    try {
      return await task(name, group.signal);
    } catch (error) {
      failure ??= error;
      group.abort();
      throw error;
    }
  });
  const results = await Promise.allSettled(running);
  stop();
  if (failure !== undefined) throw failure;
  return results.map((result) => (result as PromiseFulfilledResult<Awaited<T>>).value);
}
