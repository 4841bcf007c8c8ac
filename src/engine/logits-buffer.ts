import type { DeviceMemory, DeviceWeights } from '../runtime/device.ts';
import { Tensor } from '../runtime/ort.ts';
import { readTensor } from '../runtime/tensors.ts';

/** The logits of all rows of a decoding, in one place that every pass writes anew. */
export class LogitsBuffer {
  /** fp32 [rows, vocab], where the model computes. */
  readonly all: Tensor;
  readonly #rows: number;
  readonly #vocab: number;
  readonly #memory: DeviceMemory | undefined;

  private constructor(rows: number, vocab: number, memory?: DeviceMemory) {
    this.#rows = rows;
    this.#vocab = vocab;
    this.#memory = memory;
    this.all =
      memory?.tensor('float32', [rows, vocab]) ??
      new Tensor('float32', new Float32Array(rows * vocab), [rows, vocab]);
  }

  /** @param weights of the model, where they are on a device */
  static async open(rows: number, vocab: number, weights: DeviceWeights | undefined): Promise<LogitsBuffer> {
    return new LogitsBuffer(rows, vocab, await weights?.device.allocate(4 * rows * vocab, 'logits'));
  }

  /** Rows next to each other; undefined for none. */
  rowsFrom(first: number | undefined, count: number): Tensor | undefined {
    if (first === undefined) return undefined;
    if (count === this.#rows) return this.all;
    const start = first * this.#vocab;
    const dims = [count, this.#vocab];
    if (this.#memory) return this.#memory.tensor('float32', dims, 4 * start);
    const part = (this.all.data as Float32Array).subarray(start, start + count * this.#vocab);
    return new Tensor('float32', part, dims);
  }

  /** What the last passes wrote. */
  async read(): Promise<Float32Array> {
    return (await readTensor(this.all)) as Float32Array;
  }

  dispose(): void {
    this.#memory?.dispose();
  }
}
