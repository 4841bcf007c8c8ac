/** Seeded token ids, the same on every machine; a prompt's content must not make one run differ from another. */
export class RandomIds {
  #state: number;
  readonly #vocabSize: number;

  constructor(vocabSize: number, seed: number) {
    this.#vocabSize = vocabSize;
    this.#state = seed >>> 0;
  }

  /** `count` ids in 0 ≤ id < vocabSize. */
  take(count: number): number[] {
    return Array.from({ length: count }, () => Math.floor(this.#next() * this.#vocabSize));
  }

  /** Uniform in [0, 1): a 32-bit linear congruential generator (Numerical Recipes); its high bits are good enough here. */
  #next(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return this.#state / 2 ** 32;
  }
}
