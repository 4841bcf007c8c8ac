import type { Device, DeviceMemory } from '../runtime/device.ts';
import { allocate } from '../runtime/memory.ts';
import { Tensor } from '../runtime/ort.ts';
import { readTensor } from '../runtime/tensors.ts';

/** Buffers kept for the next call. */
const MOST_IDLE = 2;

/**
 * Where passes write logits: a buffer for each pass whose results may still be read. Buffers are used again, because recorded steps hold
 * their addresses.
 */
export class LogitsBuffers {
  readonly #vocab: number;
  readonly #device: Device | undefined;
  readonly #onFree: () => void;
  #idle: LogitsBuffer[] = [];
  #isDisposed = false;
  #made = 0;

  /** @param onFree called before a buffer's memory is given up */
  constructor(vocab: number, device: Device | undefined, onFree: () => void = () => {}) {
    this.#vocab = vocab;
    this.#device = device;
    this.#onFree = onFree;
  }

  /** A buffer for at least `rows` rows. */
  async take(rows: number): Promise<LogitsBuffer> {
    const [best] = this.#idle.filter((buffer) => buffer.rows >= rows).sort((a, b) => a.rows - b.rows);
    if (best) {
      this.#idle = this.#idle.filter((buffer) => buffer !== best);
      return best;
    }
    const memory = await this.#device?.allocate(4 * rows * this.#vocab, 'logits');
    return new LogitsBuffer(this.#made++, rows, this.#vocab, memory);
  }

  /** Takes a buffer back; nobody reads it any more. */
  put(buffer: LogitsBuffer): void {
    this.#idle.push(buffer);
    this.#idle.sort((a, b) => b.rows - a.rows);
    for (const surplus of this.#idle.splice(this.#isDisposed ? 0 : MOST_IDLE)) {
      this.#onFree();
      surplus.dispose();
    }
  }

  /** Frees what is not in use now, and the rest when it is given back. */
  dispose(): void {
    this.#isDisposed = true;
    for (const buffer of this.#idle) buffer.dispose();
    this.#idle = [];
  }
}

/** The logits of up to `rows` rows, which a pass writes. */
export class LogitsBuffer {
  readonly id: number;
  readonly rows: number;
  readonly #vocab: number;
  readonly #memory: DeviceMemory | undefined;
  readonly #data: Float32Array | undefined;
  readonly #tensors = new Map<string, Tensor>();

  constructor(id: number, rows: number, vocab: number, memory?: DeviceMemory) {
    this.id = id;
    this.rows = rows;
    this.#vocab = vocab;
    this.#memory = memory;
    this.#data = memory
      ? undefined
      : allocate(
          Float32Array,
          rows * vocab,
          `logits of ${rows} positions`,
          'Run fewer rows at a time, or ask for the last ones only with logitsToKeep',
        );
  }

  /** fp32 [count, vocab]: the rows from `first` on. */
  tensor(first: number, count: number): Tensor {
    const key = `${first} ${count}`;
    const tensor = this.#tensors.get(key) ?? this.#view(first, count);
    this.#tensors.set(key, tensor);
    return tensor;
  }

  /** What a pass wrote to rows, fp32 [count, vocab]. */
  async read(first: number, count: number): Promise<Float32Array> {
    return (await readTensor(this.tensor(first, count))) as Float32Array;
  }

  dispose(): void {
    this.#memory?.dispose();
  }

  #view(first: number, count: number): Tensor {
    const start = first * this.#vocab;
    const dims = [count, this.#vocab];
    if (this.#memory) return this.#memory.tensor('float32', dims, 4 * start);
    const part = (this.#data as Float32Array).subarray(start, start + count * this.#vocab);
    return new Tensor('float32', part, dims);
  }
}
