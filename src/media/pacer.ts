import { abortIf } from '../errors.ts';

const SLICE_MS = 12;

/**
 * Lets long loops share the event loop: `await pacer.turn()` between pieces of work of a few milliseconds gives way to
 * timers and I/O once a slice of 12 ms is used up.
 */
export class Pacer {
  #sliceStart = performance.now();
  readonly #what: string;
  readonly #signal: AbortSignal | undefined;

  /** @param what the work in messages, such as `preparing image 2` */
  constructor(what: string, signal?: AbortSignal) {
    this.#what = what;
    this.#signal = signal;
  }

  /** @throws AbortError */
  async turn(): Promise<void> {
    abortIf(this.#signal, this.#what);
    if (performance.now() - this.#sliceStart < SLICE_MS) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#sliceStart = performance.now();
    abortIf(this.#signal, this.#what);
  }
}
