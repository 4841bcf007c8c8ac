import { abortIf, onAbort } from '../errors.ts';
import { ApiError } from './api-error.ts';

/** Lets so many requests in at once, has so many others wait in turn, and refuses the rest. */
export class Gate {
  readonly #most: number;
  readonly #mostWaiting: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #isClosed = false;
  #empty: (() => void)[] = [];

  constructor(most: number, mostWaiting: number) {
    this.#most = most;
    this.#mostWaiting = mostWaiting;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Lets nobody in any more; those that wait are let in still. Resolves when all have left. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => this.#empty.push(resolve));
  }

  /**
   * Waits for its turn.
   * @returns ends the stay
   * @throws ApiError where too many wait, or the server is closing; AbortError
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    abortIf(signal, 'the request');
    if (this.#isClosed) throw new ApiError(503, 'The server is shutting down', { retryAfter: 1 });
    if (this.#running >= this.#most) {
      if (this.#waiting.length >= this.#mostWaiting)
        throw new ApiError(429, `The server is busy: ${this.#waiting.length} requests are waiting`, {
          retryAfter: 1,
        });
      await this.#turn(signal);
    } else this.#running++;
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      this.#leave();
    };
  }

  /** Who leaves hands its place on, so that nobody comes in between. */
  async #turn(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        stop();
        resolve();
      };
      const stop = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(signal.reason);
      });
      this.#waiting.push(enter);
    }).catch((reason: unknown) => {
      abortIf(signal, 'the request');
      throw reason;
    });
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else if (--this.#running === 0) for (const tell of this.#empty.splice(0)) tell();
  }
}
