import { abortIf, unlessAborted } from '../errors.ts';
import type { Plan } from './plan.ts';
import type { Streamer } from './streamers.ts';

/** Tells a streamer that its generation has failed. */
export async function endStreamer(
  { streamer, signal }: Pick<Plan, 'streamer' | 'signal'>,
  failure: unknown,
): Promise<void> {
  try {
    const told = streamer?.fail ? streamer.fail(failure) : streamer?.end();
    await untilAborted(told, signal);
  } catch {
    // What ended the generation matters more, and may be this very streamer.
  }
}

/** Tells a streamer of a generation that does not even begin, for whoever waits at its other end; others have nothing to end. */
export async function refuseStreamer(
  options: { streamer?: unknown; signal?: AbortSignal | undefined } | null | undefined,
  failure: unknown,
): Promise<void> {
  const streamer = options?.streamer as Partial<Streamer> | null | undefined;
  if (typeof streamer?.fail === 'function')
    await endStreamer({ streamer: streamer as Streamer, signal: options?.signal }, failure);
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
