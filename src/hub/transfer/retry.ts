import { setTimeout as sleep } from 'node:timers/promises';
import { abortIf, HubError } from '../../errors.ts';
import type { TransferSettings } from './connection.ts';

/** An attempt failed in a way that may pass: a dropped connection, 429, 5xx. */
export class TransientError extends Error {
  override name = 'TransientError';

  constructor(
    message: string,
    /** The pause the server asked for, ms. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The hub did not answer, or not usefully, after all attempts: what is cached may serve instead. */
export class UnreachableError extends HubError {}

/** @throws AbortError when the caller has ended the load */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  abortIf(signal, 'the download');
}

/**
 * Runs `attempt` until it succeeds, pausing between tries: exponential back-off with jitter, or as long as the server
 * asks. Only a `TransientError` is tried again.
 *
 * @param what for messages: "download of X"
 * @throws UnreachableError when the attempts are used up
 */
export async function withRetries<T>(
  what: string,
  settings: TransferSettings,
  signal: AbortSignal | undefined,
  attempt: (reset: () => void) => Promise<T>,
): Promise<T> {
  let failures = 0;
  const reset = () => {
    failures = 0;
  };
  for (;;) {
    throwIfAborted(signal);
    try {
      return await attempt(reset);
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof TransientError)) throw error;
      failures++;
      const pause = pauseMs(error, failures, settings);
      if (failures > settings.retries || pause > settings.longestWaitMs) {
        const tries = failures === 1 ? '1 attempt' : `${failures} attempts in a row`;
        const wait =
          error.retryAfterMs === undefined ? '' : ` (the hub asks to wait ${Math.ceil(pause / 1000)} s)`;
        throw new UnreachableError(
          `${what} failed after ${tries}: ${error.message}${wait}. Try again later`,
          {
            cause: error,
          },
        );
      }
      // An abort during the pause is reported by the check above.
      await sleep(pause, undefined, signal ? { signal } : {}).catch(() => {});
    }
  }
}

function pauseMs(error: TransientError, failures: number, settings: TransferSettings): number {
  const backOff = Math.min(settings.firstPauseMs * 2 ** (failures - 1), settings.longestPauseMs);
  return Math.max(error.retryAfterMs ?? 0, backOff * (0.5 + Math.random() / 2));
}

/** `Retry-After` in ms: seconds or an HTTP date (RFC 9110, 10.2.3); undefined when absent or unreadable. */
export function parseRetryAfter(text: string | null, now: number = Date.now()): number | undefined {
  if (text === null) return undefined;
  if (/^\d+$/.test(text.trim())) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
