import { abortIf, unlessAborted } from '../errors.ts';
import type { Plan } from './plan.ts';

/** Tells a streamer that its generation has failed. */
export async function endStreamer({ streamer, signal }: Plan, failure: unknown): Promise<void> {
  try {
    const told = streamer?.fail ? streamer.fail(failure) : streamer?.end();
    await untilAborted(told, signal);
  } catch {
    // What ended the generation matters more, and may be this very streamer.
  }
}

/**
 * Waits for what a streamer returns, but not beyond the signal.
 * @throws AbortError once the signal has fired
 */
export async function untilAborted(told: unknown, signal: AbortSignal | undefined): Promise<void> {
  if (typeof (told as PromiseLike<unknown> | undefined)?.then !== 'function') return;
  await unlessAborted(signal, 'generation', told as PromiseLike<unknown>);
  abortIf(signal, 'generation');
}
