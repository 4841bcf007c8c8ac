import { setImmediate } from 'node:timers/promises';
import { Tensor } from '../runtime/ort.ts';

export interface CacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * Keys and values of every layer, fp32 [rows, kv heads, capacity, head dim], which the engine extends in place. Capacity
 * doubles when it runs out, up to a limit, so that a token costs no copy on average.
 */
export class KvCache {
  readonly rows: number;
  readonly #shape: CacheShape;
  readonly #limit: number;
  #capacity = 0;
  #tensors: Record<string, Tensor> = {};

  /** @param limit most positions a row will ever hold */
  constructor(rows: number, shape: CacheShape, limit: number) {
    this.rows = rows;
    this.#shape = shape;
    this.#limit = limit;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Makes room for `positions` in every row; keeps what is stored. */
  async reserve(positions: number): Promise<void> {
    if (positions <= this.#capacity) return;
    const doubled = Math.max(2 * this.#capacity, roundUp(positions, 256));
    const capacity = Math.max(positions, Math.min(doubled, this.#limit));
    const { layers, kvHeads, headDim } = this.#shape;
    const blocks = this.rows * kvHeads;
    for (let layer = 0; layer < layers; layer++) {
      for (const part of ['key', 'value']) {
        const name = `${layer}.${part}`;
        const data = new Float32Array(blocks * capacity * headDim);
        const old = this.#tensors[name]?.data as Float32Array | undefined;
        if (old) copyBlocks(old, data, blocks, this.#capacity * headDim, capacity * headDim);
        this.#tensors[name] = new Tensor('float32', data, [this.rows, kvHeads, capacity, headDim]);
      }
      // Copying a long cache takes a while; the event loop gets its turn between layers.
      if (this.#capacity > 0) await setImmediate();
    }
    this.#capacity = capacity;
  }

  /** The cache as the engine's past and present, which are the same memory. */
  get tensors(): Readonly<Record<string, Tensor>> {
    return this.#tensors;
  }

  /** One row's part of the same memory. */
  row(row: number): Readonly<Record<string, Tensor>> {
    const { kvHeads, headDim } = this.#shape;
    const size = kvHeads * this.#capacity * headDim;
    const view = (tensor: Tensor) =>
      new Tensor('float32', (tensor.data as Float32Array).subarray(row * size, (row + 1) * size), [
        1,
        kvHeads,
        this.#capacity,
        headDim,
      ]);
    return Object.fromEntries(Object.entries(this.#tensors).map(([name, tensor]) => [name, view(tensor)]));
  }

  dispose(): void {
    this.#tensors = {};
    this.#capacity = 0;
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function copyBlocks(
  from: Float32Array,
  to: Float32Array,
  blocks: number,
  fromSize: number,
  toSize: number,
): void {
  for (let i = 0; i < blocks; i++) to.set(from.subarray(i * fromSize, (i + 1) * fromSize), i * toSize);
}
