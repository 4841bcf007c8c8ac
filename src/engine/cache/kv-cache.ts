import { setImmediate } from 'node:timers/promises';
import { ELEMENT_TYPES } from '../../dtype.ts';
import type { DeviceMemory, DeviceWeights } from '../../runtime/device.ts';
import { Tensor } from '../../runtime/ort.ts';

export interface CacheShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Weights of the model on a device, where the cache lies too, in their element type; without them it is fp32 on the CPU. */
  readonly weights?: DeviceWeights | undefined;
}

/** Past and present by `layer.key` and `layer.value`; replaced by another object when the cache grows. */
export type CacheTensors = Readonly<Record<string, Tensor>>;

const releaseHooks = new WeakMap<CacheTensors, Set<() => void>>();

/** Calls `hook` when the memory behind a cache's tensors is given up. */
export function onCacheRelease(tensors: CacheTensors, hook: () => void): void {
  const hooks = releaseHooks.get(tensors) ?? new Set();
  hooks.add(hook);
  releaseHooks.set(tensors, hooks);
}

/**
 * Keys and values of every layer, [rows, kv heads, capacity, head dim], which the engine extends in place. Capacity doubles
 * when it runs out, up to a limit, so that a token costs no copy on average.
 */
export class KvCache {
  readonly rows: number;
  readonly #shape: CacheShape;
  readonly #limit: number;
  readonly #blocks: Blocks;
  #capacity = 0;
  #tensors: CacheTensors = {};

  /** @param limit most positions a row will ever hold */
  constructor(rows: number, shape: CacheShape, limit: number) {
    this.rows = rows;
    this.#shape = shape;
    this.#limit = limit;
    const { weights } = shape;
    this.#blocks = weights ? new DeviceBlocks(rows, shape, weights) : new HostBlocks(rows, shape);
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** Makes room for `positions` in every row; keeps what is stored. */
  async reserve(positions: number): Promise<void> {
    if (positions <= this.#capacity) return;
    const doubled = Math.max(2 * this.#capacity, roundUp(positions, 256));
    const capacity = Math.max(positions, Math.min(doubled, this.#limit));
    const tensors: Record<string, Tensor> = {};
    // What was recorded over the old memory would keep all of it until the last layer has moved.
    release(this.#tensors);
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      for (const part of ['key', 'value'])
        tensors[`${layer}.${part}`] = await this.#blocks.grow(`${layer}.${part}`, this.#capacity, capacity);
      // Copying a long cache takes a while; the event loop gets its turn between layers.
      if (this.#capacity > 0) await setImmediate();
    }
    this.#tensors = tensors;
    this.#capacity = capacity;
  }

  /** The cache as the engine's past and present, which are the same memory. */
  get tensors(): CacheTensors {
    return this.#tensors;
  }

  /** One row's part of the same memory. */
  row(row: number): CacheTensors {
    const names = Object.keys(this.#tensors);
    return Object.fromEntries(names.map((name) => [name, this.#blocks.row(name, row, this.#capacity)]));
  }

  dispose(): void {
    const old = this.#tensors;
    this.#tensors = {};
    this.#capacity = 0;
    this.#blocks.dispose();
    release(old);
  }
}

function release(tensors: CacheTensors): void {
  for (const hook of releaseHooks.get(tensors) ?? []) hook();
  releaseHooks.delete(tensors);
}

/** Where the keys and values of a cache lie: a block of positions for every row and head. */
interface Blocks {
  /** The tensor `name` with room for `to` positions, and what it held at `from`. */
  grow(name: string, from: number, to: number): Promise<Tensor>;
  row(name: string, row: number, capacity: number): Tensor;
  dispose(): void;
}

class HostBlocks implements Blocks {
  readonly #rows: number;
  readonly #shape: CacheShape;
  readonly #data = new Map<string, Float32Array>();

  constructor(rows: number, shape: CacheShape) {
    this.#rows = rows;
    this.#shape = shape;
  }

  async grow(name: string, from: number, to: number): Promise<Tensor> {
    const { kvHeads, headDim } = this.#shape;
    const blocks = this.#rows * kvHeads;
    const data = new Float32Array(blocks * to * headDim);
    const old = this.#data.get(name);
    const [oldSize, newSize] = [from * headDim, to * headDim];
    if (old)
      for (let i = 0; i < blocks; i++) data.set(old.subarray(i * oldSize, (i + 1) * oldSize), i * newSize);
    this.#data.set(name, data);
    return new Tensor('float32', data, [this.#rows, kvHeads, to, headDim]);
  }

  row(name: string, row: number, capacity: number): Tensor {
    const { kvHeads, headDim } = this.#shape;
    const size = kvHeads * capacity * headDim;
    const part = (this.#data.get(name) as Float32Array).subarray(row * size, (row + 1) * size);
    return new Tensor('float32', part, [1, kvHeads, capacity, headDim]);
  }

  dispose(): void {
    this.#data.clear();
  }
}

class DeviceBlocks implements Blocks {
  readonly #rows: number;
  readonly #shape: CacheShape;
  readonly #weights: DeviceWeights;
  readonly #memory = new Map<string, DeviceMemory>();
  #disposed = false;

  constructor(rows: number, shape: CacheShape, weights: DeviceWeights) {
    this.#rows = rows;
    this.#shape = shape;
    this.#weights = weights;
  }

  async grow(name: string, from: number, to: number): Promise<Tensor> {
    const { kvHeads, headDim } = this.#shape;
    const { device, dtype } = this.#weights;
    const positionBytes = headDim * ELEMENT_TYPES[dtype].bytes;
    const blocks = this.#rows * kvHeads;
    const memory = await device.allocate(blocks * to * positionBytes, `a KV cache of ${to} positions`);
    const old = this.#memory.get(name);
    if (old) {
      await old.copyBlocksTo(memory, blocks, from * positionBytes, to * positionBytes);
      old.dispose();
    }
    this.#memory.set(name, memory);
    if (this.#disposed) this.dispose();
    return memory.tensor(dtype, [this.#rows, kvHeads, to, headDim]);
  }

  row(name: string, row: number, capacity: number): Tensor {
    const { kvHeads, headDim } = this.#shape;
    const { dtype } = this.#weights;
    const offset = row * kvHeads * capacity * headDim * ELEMENT_TYPES[dtype].bytes;
    return (this.#memory.get(name) as DeviceMemory).tensor(dtype, [1, kvHeads, capacity, headDim], offset);
  }

  dispose(): void {
    this.#disposed = true;
    for (const memory of this.#memory.values()) memory.dispose();
    this.#memory.clear();
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
