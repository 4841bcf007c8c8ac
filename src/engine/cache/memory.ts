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
  dispose(): void;
}

export interface CacheMemory {
  /**
   * A buffer of `dims` that begins with what `old` holds; `old` is freed.
   * @throws EngineError where there is no room
   */
  grow(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer>;
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
    if (old) this.#memory.set(old.#memory);
  }

  tensor(pieces: number): Tensor {
    const [all = 1, ...rest] = this.dims;
    const bytes = (this.bytes / all) * pieces;
    return hostTensor(this.#dtype, this.#memory.subarray(0, bytes), [pieces, ...rest]);
  }

  get bytes(): number {
    return this.#memory.byteLength;
  }

  dispose(): void {}
}

export class HostCacheMemory implements CacheMemory {
  async grow(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer> {
    return new HostBuffer(dtype, dims, old as HostBuffer | undefined);
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

  dispose(): void {
    this.memory.dispose();
  }
}

export class DeviceCacheMemory implements CacheMemory {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  async grow(old: CacheBuffer | undefined, dtype: DType, dims: readonly number[]): Promise<CacheBuffer> {
    const bytes = count(dims) * ELEMENT_TYPES[dtype].bytes;
    const memory = await this.#device.allocate(bytes, `a cache of ${dims.join(' × ')}`);
    const from = (old as DeviceBuffer | undefined)?.memory;
    if (from) {
      await from.copyTo(memory);
      from.dispose();
    }
    return new DeviceBuffer(memory, dtype, dims);
  }
}

function count(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}
