/**
 * xoshiro128**: a small, fast generator of 32-bit words with a period of 2^128 − 1.
 * Source: Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators" (2021).
 *
 * The state comes from the seed (both halves of up to 53 bits) and a stream number, mixed with the 32-bit finalizer of
 * MurmurHash3. Streams of one seed are unrelated, so every row of a batch draws on its own and gets the same tokens
 * alone and in company.
 */
export class Random {
  readonly #state: Uint32Array;

  /**
   * @param seed integer from 0 to 2^53 − 1
   * @param stream integer from 0 to 2^32 − 1
   */
  constructor(seed: number, stream = 0) {
    let word = 0x9e3779b9;
    const absorb = (value: number) => {
      word = mix((word ^ value) + 0x9e3779b9);
    };
    absorb(seed % 2 ** 32);
    absorb(Math.floor(seed / 2 ** 32));
    absorb(stream);
    this.#state = Uint32Array.from({ length: 4 }, (_, i) => mix(word + Math.imul(i + 1, 0x9e3779b9)));
    // All zeros is the one state that never leaves itself.
    if (this.#state.every((part) => part === 0)) this.#state[0] = 1;
  }

  /** The next 32 bits. */
  uint32(): number {
    const s = this.#state as unknown as [number, number, number, number];
    const result = Math.imul(rotateLeft(Math.imul(s[1], 5), 7), 9) >>> 0;
    const shifted = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotateLeft(s[3], 11);
    return result;
  }

  /** A number in [0, 1) with 53 random bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 2 ** 26 + (this.uint32() >>> 6)) / 2 ** 53;
  }
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A seed from the system's own randomness, for callers who give none. */
export function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
  return (high >>> 11) * 2 ** 32 + low;
}
