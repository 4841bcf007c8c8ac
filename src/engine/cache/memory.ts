/** Where what layers keep lies: in this process's memory, or on a device. */
import { type DType, ELEMENT_TYPES } from '../../dtype.ts';
import type { Device, DeviceMemory } from '../../runtime/device.ts';
import { allocate } from '../../runtime/memory.ts';
import type { Tensor } from '../../runtime/ort.ts';
import { hostTensor } from '../../runtime/tensors.ts';

/** One tensor's memory. */
export interface CacheBuffer {
  /** Sizes of all of it. */
  readonly dims: readonly number[];
  readonly bytes: number;
  /** Its first `pieces` of dimension 0, fed as past and fetched as present, so that the engine changes it in place. */
  tensor(pieces: number): Tensor;
  /** The bytes of a piece. */
  read(piece: number): Promise<Uint8Array>;
  write(piece: number, bytes: Uint8Array): Promise<void>;
  dispose(): void;
}

/** Where a piece of a buffer goes to in the same buffer. */
export interface PieceCopy {
  readonly buffer: CacheBuffer;
  readonly from: number;
  readonly to: number;
}

export interface CacheMemory {
  /**
   * A buffer of `dims` that holds what `old` holds, as far as there is room for it; `old` is freed.
   * @throws EngineError where there is no room
   */
  resize(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer>;
  /** Copies pieces one after the other. */
  copy(copies: readonly PieceCopy[]): Promise<void>;
}

class HostBuffer implements CacheBuffer {
  readonly dims: readonly number[];
  readonly #dtype: DType;
  readonly #memory: Uint8Array;

  constructor(dtype: DType, dims: readonly number[], old?: HostBuffer) {
    this.dims = dims;
    this.#dtype = dtype;
    // Fresh memory of this size is zero pages that count only once they are written.
    this.#memory = allocate(
      Uint8Array,
      count(dims) * ELEMENT_TYPES[dtype].bytes,
      `a cache of ${dims.join(' × ')}`,
      'Run fewer or shorter rows at a time, or bound them with maxCacheLength',
    );
    if (old) this.#memory.set(old.#memory.subarray(0, Math.min(old.bytes, this.bytes)));
  }

  tensor(pieces: number): Tensor {
    const bytes = pieceBytes(this) * pieces;
    return hostTensor(this.#dtype, this.#memory.subarray(0, bytes), [pieces, ...this.dims.slice(1)]);
  }

  get bytes(): number {
    return this.#memory.byteLength;
  }

  copyPiece(from: number, to: number): void {
    const bytes = pieceBytes(this);
    this.#memory.copyWithin(to * bytes, from * bytes, (from + 1) * bytes);
  }

  async read(piece: number): Promise<Uint8Array> {
    const bytes = pieceBytes(this);
    return this.#memory.slice(piece * bytes, (piece + 1) * bytes);
  }

  async write(piece: number, bytes: Uint8Array): Promise<void> {
    this.#memory.set(bytes, piece * pieceBytes(this));
  }

  dispose(): void {}
}

export class HostCacheMemory implements CacheMemory {
  async resize(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer> {
    return new HostBuffer(dtype, dims, old as HostBuffer | undefined);
  }

  async copy(copies: readonly PieceCopy[]): Promise<void> {
    for (const { buffer, from, to } of copies) (buffer as HostBuffer).copyPiece(from, to);
  }
}

class DeviceBuffer implements CacheBuffer {
  readonly dims: readonly number[];
  readonly memory: DeviceMemory;
  readonly #dtype: DType;

  constructor(memory: DeviceMemory, dtype: DType, dims: readonly number[]) {
    this.dims = dims;
    this.memory = memory;
    this.#dtype = dtype;
  }

  tensor(pieces: number): Tensor {
    return this.memory.tensor(this.#dtype, [pieces, ...this.dims.slice(1)]);
  }

  get bytes(): number {
    return this.memory.bytes;
  }

  async read(piece: number): Promise<Uint8Array> {
    const bytes = pieceBytes(this);
    return new Uint8Array(await this.memory.read(piece * bytes, bytes));
  }

  write(piece: number, bytes: Uint8Array): Promise<void> {
    return this.memory.write(bytes, piece * pieceBytes(this));
  }

  dispose(): void {
    this.memory.dispose();
  }
}

export class DeviceCacheMemory implements CacheMemory {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  async resize(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer> {
    const wanted = count(dims) * ELEMENT_TYPES[dtype].bytes;
    const memory = await this.#device.allocate(wanted, `a cache of ${dims.join(' × ')}`);
    const from = (old as DeviceBuffer | undefined)?.memory;
    if (from) {
      const bytes = Math.min(from.bytes, memory.bytes);
      await this.#device.copy([{ from, fromOffset: 0, to: memory, toOffset: 0, bytes }]);
      from.dispose();
    }
    return new DeviceBuffer(memory, dtype, dims);
  }

  async copy(copies: readonly PieceCopy[]): Promise<void> {
    await this.#device.copy(
      copies.map(({ buffer, from, to }) => {
        const { memory } = buffer as DeviceBuffer;
        const bytes = pieceBytes(buffer);
        return { from: memory, fromOffset: from * bytes, to: memory, toOffset: to * bytes, bytes };
      }),
    );
  }
}

/** Of one entry of dimension 0. */
function pieceBytes({ bytes, dims }: CacheBuffer): number {
  return bytes / (dims[0] ?? 1);
}

function count(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}
