/** Seeded random numbers for tests (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Uniform in [-scale, scale). */
  floats(count: number, scale: number): Float32Array {
    return Float32Array.from({ length: count }, () => (2 * this.next() - 1) * scale);
  }

  /** As `floats`, rounded to what `dtype` can hold. */
  stored(count: number, scale: number, dtype: 'F32' | 'BF16' | 'F16'): Float64Array {
    // Small multiples of a power of two fit all three types exactly, so the stored values are the ones computed with.
    const step = scale / 32;
    const exact = 2 ** Math.floor(Math.log2(step));
    const values = Float64Array.from(
      { length: count },
      () => Math.round(((2 * this.next() - 1) * scale) / exact) * exact,
    );
    return dtype === 'F32' ? values.map((value) => value + exact / 1024) : values;
  }

  /** Little-endian bytes of values that `dtype` holds exactly. */
  static encode(values: Float64Array, dtype: 'F32' | 'BF16' | 'F16'): Buffer {
    const floats = Float32Array.from(values);
    if (dtype === 'F32') return Buffer.from(floats.buffer);
    const bits = new Uint32Array(floats.buffer);
    const halves = Uint16Array.from(bits, (word) => (dtype === 'BF16' ? word >>> 16 : halfBits(word)));
    return Buffer.from(halves.buffer);
  }
}

/** fp32 bits → fp16 bits, for normal values and zero that fp16 holds exactly. */
function halfBits(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const exponent = ((word >>> 23) & 0xff) - 127 + 15;
  if ((word & 0x7fffffff) === 0) return sign;
  return sign | (exponent << 10) | ((word >>> 13) & 0x3ff);
}
