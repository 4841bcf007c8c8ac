import { onAbort } from '../errors.ts';

/** How long and how slowly a server may answer. */
export interface Patience {
  /** Silence after which a connection counts as dropped, ms. */
  readonly silenceMs: number;
  /** Slower than this, on average over `speedWindowMs`, counts as dropped, too; 0: any speed will do. */
  readonly minBytesPerSecond: number;
  readonly speedWindowMs: number;
}

/** Bytes a second that a body must come at, from SWITCHYARD_MIN_DOWNLOAD_SPEED; the slowest modems were three times as fast. */
export function minDownloadSpeed(env: Readonly<Record<string, string | undefined>> = process.env): number {
  const text = env.SWITCHYARD_MIN_DOWNLOAD_SPEED?.trim();
  const value = text ? Number(text) : Number.NaN;
  return Number.isFinite(value) && value >= 0 ? value : 1000;
}

/** Long enough for a connection to recover from a stall. */
export const SPEED_WINDOW_MS = 30_000;

/** Why a watchdog ended a request. */
export type Ending = 'silent' | 'slow' | 'caller';

/** Ends a request that has been silent or slow for too long, or whose caller has gone. */
export class Watchdog {
  ending: Ending | undefined;
  readonly #controller = new AbortController();
  readonly #silence: NodeJS.Timeout;
  #speed: NodeJS.Timeout | undefined;
  readonly #leave: () => void;
  readonly #patience: Patience;
  #bytes = 0;

  constructor(patience: Patience, caller: AbortSignal | undefined) {
    this.#patience = patience;
    this.#silence = setTimeout(() => this.#end('silent'), patience.silenceMs);
    this.#leave = onAbort(caller, () => this.#end('caller'));
    if (caller?.aborted) this.#end('caller');
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something arrived: the silence starts anew. */
  received(bytes: number): void {
    this.#silence.refresh();
    // The speed counts from the first byte on; what comes before it is silence.
    if (this.#bytes === 0 && bytes > 0 && this.#patience.minBytesPerSecond > 0)
      this.#speed ??= setInterval(() => this.#judgeSpeed(), this.#patience.speedWindowMs);
    this.#bytes += bytes;
  }

  stop(): void {
    clearTimeout(this.#silence);
    clearInterval(this.#speed);
    this.#leave();
  }

  #judgeSpeed(): void {
    const { minBytesPerSecond, speedWindowMs } = this.#patience;
    if (this.#bytes * 1000 < minBytesPerSecond * speedWindowMs) this.#end('slow');
    this.#bytes = 0;
  }

  #end(ending: Ending): void {
    this.ending ??= ending;
    this.#controller.abort();
  }
}
