// Longest stretch of work between two turns of the event loop, a quarter of what callers may expect at most.
const BUSY_MS = 12;

/** Gives the event loop a turn now and then, also with a model that answers without one. */
export class Pace {
  #since = performance.now();

  async breathe(): Promise<void> {
    if (performance.now() - this.#since < BUSY_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
