import { NOT_ROUTED } from '../routing/record.ts';

/**
 * The experts of each token of one sequence, as passes compute them; what a later pass computes anew counts. A pass that computes again what the
 * sequence had given up leaves out layers that it needs no scores of: of these what is known stays.
 */
export class SequenceRouting {
  readonly #width: number;
  #experts: Uint16Array;

  /** @param width numbers a token: layers · k */
  constructor(width: number, experts = new Uint16Array()) {
    this.#width = width;
    this.#experts = experts;
  }

  /** @param experts of the tokens from place `start` on, [tokens, layers, k] */
  take(start: number, experts: Uint16Array): void {
    const from = start * this.#width;
    const needed = from + experts.length;
    if (needed > this.#experts.length) {
      const grown = new Uint16Array(Math.max(needed, 2 * this.#experts.length)).fill(NOT_ROUTED);
      grown.set(this.#experts);
      this.#experts = grown;
    }
    for (const [i, expert] of experts.entries()) if (expert !== NOT_ROUTED) this.#experts[from + i] = expert;
  }

  /** Of the first `tokens`, [tokens, layers, k]. */
  first(tokens: number): Uint16Array {
    return this.#experts.slice(0, tokens * this.#width);
  }

  fork(): SequenceRouting {
    return new SequenceRouting(this.#width, this.#experts.slice());
  }
}
