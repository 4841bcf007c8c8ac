import { setImmediate } from 'node:timers/promises';
import type { DType } from '../../dtype.ts';
import type { Tensor } from '../../runtime/ort.ts';
import type { CacheBuffer, CacheMemory } from './memory.ts';

/** Past and present of every layer, which are the same memory, by `stateName`. */
export type CacheTensors = ReadonlyMap<string, Tensor>;

/** What a piece has of one tensor. */
export interface SlabPart {
  readonly name: string;
  readonly dtype: DType;
  /** Of one piece; the tensor is [pieces, …dims]. */
  readonly dims: readonly number[];
}

/**
 * Numbered pieces of memory of one size, each a part of several tensors: a block of keys and values in all layers, say. Pieces are taken
 * and given back; the slab grows when they run out, and a piece's number stays what it was.
 *
 * Whoever grows or clears it must see to it that no pass is running.
 */
export class Slab {
  readonly #parts: readonly SlabPart[];
  readonly #memory: CacheMemory;
  readonly #onMove: () => void;
  readonly #buffers = new Map<string, CacheBuffer>();
  #tensors: CacheTensors = new Map();
  #free: number[] = [];
  #size = 0;
  #disposed = false;

  /** @param onMove called before the memory moves or is freed: recordings hold addresses */
  constructor(parts: readonly SlabPart[], memory: CacheMemory, onMove: () => void) {
    this.#parts = parts;
    this.#memory = memory;
    this.#onMove = onMove;
  }

  /** Pieces there are, in use or not. */
  get size(): number {
    return this.#size;
  }

  /** Pieces not in use. */
  get free(): number {
    return this.#free.length;
  }

  get bytes(): number {
    return [...this.#buffers.values()].reduce((sum, buffer) => sum + buffer.bytes, 0);
  }

  get tensors(): CacheTensors {
    return this.#tensors;
  }

  /** A piece that is free, the lowest unless some were given back; its contents are what they happen to be. */
  take(): number {
    return this.#free.pop() as number;
  }

  give(pieces: readonly number[]): void {
    this.#free.push(...pieces);
  }

  /**
   * Makes it `size` pieces large, with the contents of those there are.
   * @throws EngineError where there is no memory; it stays as it was
   */
  async grow(size: number): Promise<void> {
    this.#onMove();
    try {
      await this.#growBuffers(size);
      for (let piece = this.#size; piece < size; piece++) this.#free.push(piece);
      // Low numbers are handed out first.
      this.#free.sort((a, b) => b - a);
      this.#size = size;
    } finally {
      // Where memory ran out midway, some tensors have moved, and all go on with the pieces there were.
      if (this.#disposed || this.#size === 0) this.clear();
      const buffers = [...this.#buffers];
      this.#tensors = new Map(buffers.map(([name, buffer]) => [name, buffer.tensor(this.#size)]));
    }
  }

  async #growBuffers(size: number): Promise<void> {
    for (const { name, dtype, dims } of this.#parts) {
      const old = this.#buffers.get(name);
      // Already of this size where an earlier growth ended midway.
      if (old && (old.dims[0] ?? 0) >= size) continue;
      this.#buffers.set(name, await this.#memory.grow(old, dtype, [size, ...dims]));
      // Copying a long cache takes a while; the event loop gets its turn between tensors.
      if (this.#size > 0) await setImmediate();
    }
  }

  /** Frees all memory; no piece is in use any more. */
  clear(): void {
    this.#onMove();
    for (const buffer of this.#buffers.values()) buffer.dispose();
    this.#buffers.clear();
    this.#tensors = new Map();
    this.#free = [];
    this.#size = 0;
  }

  dispose(): void {
    this.#disposed = true;
    this.clear();
  }
}
