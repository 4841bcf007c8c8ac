import { unlessAborted } from '../errors.ts';

/** Work that must not overlap takes turns, in the order it was asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Does `work` once all that came before it is done.
   * @param what the work is called in messages
   * @throws AbortError when the signal fires before the turn has come
   */
  take<T>(work: () => Promise<T>, signal?: AbortSignal, what = 'the call'): Promise<T> {
    const before = this.#last;
    const turn = unlessAborted(signal, what, before).then(work);
    // Whoever leaves the queue early must not let the next one overlap with what came before both. Results are let go: those of all
    // turns would otherwise hang together, each array in the next.
    this.#last = Promise.allSettled([before, turn]).then(() => {});
    return turn;
  }
}
