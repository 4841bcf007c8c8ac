import { abortIf } from '../errors.ts';

const SLICE_MS = 12;

/**
 * Lets long loops share the event loop: `await pacer.turn()` between pieces of work of a few milliseconds gives way to
 * timers and I/O once a slice of 12 ms is used up.
 */
export class Pacer {
  #sliceStart = performance.now();
  readonly #signal: AbortSignal | undefined;

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** @throws AbortError */
  async turn(): Promise<void> {
    throwIfAborted(this.#signal);
    if (performance.now() - this.#sliceStart < SLICE_MS) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#sliceStart = performance.now();
    throwIfAborted(this.#signal);
  }
}

/** @throws AbortError when `signal` has fired */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  abortIf(signal, 'preparing the images');
}
