import { setTimeout as sleep } from 'node:timers/promises';
import { abortIf, HubError, warn } from '../../errors.ts';
import { formatDuration } from '../../units.ts';
import type { HubConnection, TransferSettings } from './connection.ts';

/** How a failure that may pass is to be treated. */
export interface Transience {
  /** The pause the server asked for, ms. */
  readonly retryAfterMs?: number | undefined;
  /** Attempts after the first one, where more would be pointless. */
  readonly retries?: number | undefined;
  /** What helps if it does not pass; by default, to wait. */
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
}

/** An attempt failed in a way that may pass: a dropped connection, 429, 5xx. */
export class TransientError extends Error {
  override name = 'TransientError';
  readonly transience: Transience;

  constructor(message: string, transience: Transience = {}) {
    super(message, { cause: transience.cause });
    this.transience = transience;
  }
}

/** The hub did not answer, or not usefully, after all attempts: what is cached may serve instead. */
export class UnreachableError extends HubError {}

/**
 * Runs `attempt` until it succeeds, pausing between tries: exponential back-off with jitter, or as long as the server
 * asks. Only a `TransientError` is tried again; a longer pause is told to the user.
 *
 * @param what for messages: "download of X"
 * @param attempt may call `gained` when it got further than any before it: the count starts anew
 * @throws UnreachableError when the attempts are used up
 */
export async function withRetries<T>(
  what: string,
  hub: HubConnection,
  attempt: (gained: () => void) => Promise<T>,
): Promise<T> {
  const { settings, signal } = hub;
  let failures = 0;
  for (;;) {
    abortIf(signal, 'the download');
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      abortIf(signal, 'the download');
      if (!(error instanceof TransientError)) throw error;
      failures++;
      const most = Math.min(error.transience.retries ?? Number.POSITIVE_INFINITY, settings.retries);
      const pause = pauseMs(error, failures, settings);
      if (failures > most || pause > settings.longestWaitMs) throw exhausted(what, error, failures);
      if (pause >= settings.toldPauseMs) {
        const again = `trying again in ${formatDuration(Math.ceil(pause / 1000))} (${failures} of ${most})`;
        warn(`${what}: ${error.message}; ${again}`, hub.onWarning);
      }
      // An abort during the pause is reported by the check above.
      await sleep(pause, undefined, signal ? { signal } : {}).catch(() => {});
    }
  }
}

function exhausted(what: string, error: TransientError, failures: number): UnreachableError {
  const { retryAfterMs, remedy = 'Try again later' } = error.transience;
  const tries = failures === 1 ? '1 attempt' : `${failures} attempts in a row`;
  const wait = retryAfterMs === undefined ? '' : ` (the hub asks to wait ${waitInWords(retryAfterMs)})`;
  return new UnreachableError(`${what} failed after ${tries}: ${error.message}${wait}. ${remedy}`, {
    cause: error,
  });
}

const DAY_MS = 86_400_000;

function waitInWords(ms: number): string {
  if (ms > DAY_MS) return 'for more than a day';
  return `${Math.ceil(ms / 1000)} s`;
}

function pauseMs({ transience }: TransientError, failures: number, settings: TransferSettings): number {
  const backOff = Math.min(settings.firstPauseMs * 2 ** (failures - 1), settings.longestPauseMs);
  return Math.max(transience.retryAfterMs ?? 0, backOff * (0.5 + Math.random() / 2));
}

/** `Retry-After` in ms: seconds or an HTTP date (RFC 9110, 10.2.3); undefined when absent or unreadable. */
export function parseRetryAfter(text: string | null, now: number = Date.now()): number | undefined {
  if (text === null) return undefined;
  if (/^\d+$/.test(text.trim())) return Math.min(Number(text), Number.MAX_SAFE_INTEGER) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
