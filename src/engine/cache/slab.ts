import { setImmediate } from 'node:timers/promises';
import { type DType, ELEMENT_TYPES } from '../../dtype.ts';
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
 * Numbered pieces of memory of one size, each a part of several tensors: a block of keys and values in all layers, say. Pieces are taken,
 * shared and given back by each of their holders; a piece's number stays what it was when the slab grows.
 *
 * Whoever resizes, copies or clears must see to it that no pass is running.
 */
export class Slab {
  readonly parts: readonly SlabPart[];
  readonly #memory: CacheMemory;
  readonly #onMove: () => void;
  readonly #buffers = new Map<string, CacheBuffer>();
  #tensors: CacheTensors = new Map();
  #free: number[] = [];
  /** Of every piece. */
  #holders: number[] = [];
  #size = 0;
  #disposed = false;

  /** @param onMove called before the memory moves or is freed: recordings hold addresses */
  constructor(parts: readonly SlabPart[], memory: CacheMemory, onMove: () => void) {
    this.parts = parts;
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

  /** Bytes of one piece. */
  get pieceBytes(): number {
    const of = ({ dtype, dims }: SlabPart) => dims.reduce((a, b) => a * b, ELEMENT_TYPES[dtype].bytes);
    return this.parts.reduce((sum, part) => sum + of(part), 0);
  }

  /** A piece that is free, the lowest unless some were given back; its contents are what they happen to be. */
  take(): number {
    const piece = this.#free.pop() as number;
    this.#holders[piece] = 1;
    return piece;
  }

  /** One more holds the piece, who gives it back too. */
  share(piece: number): number {
    this.#holders[piece] = (this.#holders[piece] as number) + 1;
    return piece;
  }

  /** Whether more than one hold the piece: then nobody may write to it. */
  isShared(piece: number): boolean {
    return (this.#holders[piece] as number) > 1;
  }

  give(piece: number): void {
    const holders = (this.#holders[piece] as number) - 1;
    this.#holders[piece] = holders;
    if (holders === 0) this.#free.push(piece);
  }

  /**
   * Makes it `size` pieces large, with the contents of those there are.
   * @throws EngineError where there is no memory; it stays as it was
   */
  grow(size: number): Promise<void> {
    return this.#resize(size);
  }

  /**
   * Makes it `size` pieces large, no fewer than are in use. Pieces may be shared and given back meanwhile.
   * @param onMoved told, at the moment from which they count, the new numbers of pieces that had to move
   * @throws EngineError where there is no memory, not even for that; pieces have moved then
   */
  async shrink(size: number, onMoved: (moves: ReadonlyMap<number, number>) => void): Promise<void> {
    const moves = new Map<number, number>();
    const targets = this.#free.filter((piece) => piece < size);
    for (let from = size; from < this.#size; from++)
      if (this.#holders[from]) moves.set(from, targets.pop() as number);
    await this.copy([...moves].map(([from, to]) => ({ from, to })));
    for (const [from, to] of moves) {
      this.#holders[to] = this.#holders[from] as number;
      this.#holders[from] = 0;
    }
    this.#free = Array.from({ length: size }, (_, piece) => piece).filter((piece) => !this.#holders[piece]);
    onMoved(moves);
    await this.#resize(size);
  }

  async #resize(size: number): Promise<void> {
    this.#onMove();
    try {
      await this.#resizeBuffers(size);
      for (let piece = this.#size; piece < size; piece++) this.#free.push(piece);
      // Low numbers are handed out first.
      this.#free = this.#free.filter((piece) => piece < size).sort((a, b) => b - a);
      this.#size = size;
    } finally {
      // Where memory ran out midway, some tensors have moved, and all go on with the pieces there were.
      if (this.#disposed || this.#size === 0) this.clear();
      const buffers = [...this.#buffers];
      this.#tensors = new Map(buffers.map(([name, buffer]) => [name, buffer.tensor(this.#size)]));
    }
  }

  /** Copies whole pieces, one after the other. */
  async copy(copies: readonly { readonly from: number; readonly to: number }[]): Promise<void> {
    const buffers = [...this.#buffers.values()];
    await this.#memory.copy(copies.flatMap((copy) => buffers.map((buffer) => ({ buffer, ...copy }))));
  }

  /** What a piece has of a tensor. */
  read(name: string, piece: number): Promise<Uint8Array> {
    return this.#bufferOf(name).read(piece);
  }

  write(name: string, piece: number, bytes: Uint8Array): Promise<void> {
    return this.#bufferOf(name).write(piece, bytes);
  }

  #bufferOf(name: string): CacheBuffer {
    return this.#buffers.get(name) as CacheBuffer;
  }

  async #resizeBuffers(size: number): Promise<void> {
    for (const { name, dtype, dims } of this.parts) {
      const old = this.#buffers.get(name);
      // Large enough already where an earlier growth ended midway.
      if (old && size > this.#size && (old.dims[0] ?? 0) >= size) continue;
      this.#buffers.set(name, await this.#memory.resize(old, dtype, [size, ...dims]));
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
    this.#holders = [];
    this.#size = 0;
  }

  dispose(): void {
    this.#disposed = true;
    this.clear();
  }
}
