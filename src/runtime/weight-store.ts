/** Opens the tensors of a checkpoint for the engine, in place. */
import { freemem } from 'node:os';
import { ELEMENT_TYPES, elementType, type SafetensorsDType } from '../dtype.ts';
import { CheckpointError, didYouMean, EngineError, InputError, show } from '../errors.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import { formatBytes } from '../units.ts';
import type { QuantizedTensor } from '../weights/quantized-tensor.ts';
import { loadBinding, type NativeWeightStore } from './binding.ts';
import { guard, nativeError } from './native-error.ts';
import { quantizedRecord } from './quantized-records.ts';
import {
  type ExpertBounds,
  type ExpertPlace,
  type ResidencyCounts,
  type ResidencyStats,
  residencyStats,
} from './residency.ts';
import type {
  OpenWeightStore,
  PinnedBytes,
  RoundedRows,
  RoundRequest,
  TensorSlice,
  WeightStore,
} from './types.ts';

/** Part of the available memory that mapped weights may fill ahead of their use. */
const MEMORY_SHARE = 0.9;

/** Bytes this process could use, page cache that would make room included. */
function availableMemory(): number {
  return process.availableMemory?.() ?? freemem();
}

class MappedWeightStore implements WeightStore {
  readonly #native: NativeWeightStore;
  readonly #handles: ReadonlyMap<string, number>;
  readonly #bytes: ReadonlyMap<string, number>;
  readonly #prefetched = new Set<string>();
  readonly #packed: boolean;
  #bounds: ExpertBounds | undefined;
  /** When they were looked at last. */
  #counts: ResidencyCounts | undefined;
  #disposed = false;

  constructor(
    native: NativeWeightStore,
    handles: ReadonlyMap<string, number>,
    bytes: ReadonlyMap<string, number>,
    packed: boolean,
  ) {
    this.#native = native;
    this.#handles = handles;
    this.#bytes = bytes;
    this.#packed = packed;
  }

  handle(name: string): number {
    this.#checkOpen();
    const handle = this.#handles.get(name);
    if (handle !== undefined) return handle;
    throw new EngineError(
      `the weight store has no tensor ${show(name)} among its ${this.#handles.size}${didYouMean(name, this.#handles.keys())}`,
    );
  }

  readFloat32(name: string): Float32Array {
    const handle = this.handle(name);
    try {
      return this.#native.readFloat32(handle);
    } catch (cause) {
      throw nativeError(cause);
    }
  }

  async checkScales(names: Iterable<string>, allowsZero = true): Promise<void> {
    this.#checkOpen();
    const handles = Int32Array.from(names, (name) => this.handle(name));
    await guard(() => this.#native.checkScales(handles, allowsZero));
  }

  async round({ name, matrix = 0, scheme, ...place }: RoundRequest): Promise<RoundedRows> {
    this.#checkOpen();
    const { firstRow, firstColumn, rows, columns, transposed = false } = place;
    const { bits, group, zeroPoints } = scheme.bits === 8 ? { bits: 8, group: 0, zeroPoints: false } : scheme;
    const numbers = [this.handle(name), matrix, firstRow, firstColumn, rows, columns, Number(transposed)];
    const request = Float64Array.of(...numbers, bits, group, Number(zeroPoints));
    return guard(() => this.#native.roundWeights(request));
  }

  prefetch(names: Iterable<string>): void {
    this.#checkOpen();
    const bounds = this.#bounds;
    const wanted = [...new Set(names)].filter(
      (name) => !(this.#prefetched.has(name) || bounds?.experts.has(name)),
    );
    const total = wanted.reduce((sum, name) => sum + (this.#bytes.get(name) ?? 0), 0);
    const room = MEMORY_SHARE * availableMemory();
    if (total > room && this.#packed)
      throw new EngineError(
        `weights: 'packed' takes ${formatBytes(total)} of this process's own memory, and ${formatBytes(room)} can be had. Leave it out: ` +
          'files that are mapped may be larger than memory',
      );
    // What is bounded has room by what the bound says.
    if (total > room && !bounds) return;
    for (const name of wanted) this.#prefetched.add(name);
    const handles = Int32Array.from(wanted, (name) => this.handle(name));
    this.#native.prefetch(handles, this.#packed);
  }

  async pin(slices: readonly TensorSlice[]): Promise<PinnedBytes> {
    this.#checkOpen();
    const numbers = slices.flatMap(({ name, index, count }) => [this.handle(name), index, count]);
    return guard(() => this.#native.pin(Int32Array.from(numbers)));
  }

  boundExperts(bounds: ExpertBounds): void {
    this.#checkOpen();
    this.#bounds = bounds;
    this.#native.boundExperts(bounds.maxBytes, bounds.otherBytes);
  }

  async prepareExperts(): Promise<void> {
    this.#checkOpen();
    if (!this.#bounds) return;
    try {
      await this.#native.prepareExperts();
    } catch (cause) {
      const { message } = cause as Error;
      throw message.startsWith('maxMemory') ? new InputError(message, { cause }) : nativeError(cause);
    }
  }

  async pinExperts(experts: readonly ExpertPlace[], maxBytes = 0): Promise<number> {
    this.#checkOpen();
    const numbers = experts.flatMap(({ gate, index }) => [this.handle(gate), index]);
    return guard(() => this.#native.pinExperts(Int32Array.from(numbers), maxBytes));
  }

  get residency(): ResidencyStats | undefined {
    if (!this.#bounds) return undefined;
    if (!this.#disposed) this.#counts = this.#native.expertsStatus();
    return this.#counts && residencyStats(this.#counts);
  }

  dispose(): void {
    if (this.#disposed) return;
    if (this.#bounds) this.#counts = this.#native.expertsStatus();
    this.#disposed = true;
    this.#native.dispose();
  }

  /** For the session that is to read from it. @throws EngineError once disposed. */
  get native(): NativeWeightStore {
    this.#checkOpen();
    return this.#native;
  }

  #checkOpen(): void {
    if (this.#disposed) throw new EngineError('the weight store is disposed');
  }
}

/**
 * Maps the files the tensors lie in, read-only and shared with the page cache; reads nothing. Where a file is written to or cut
 * short while it is open, reads and runs fail with CheckpointError; removing it, or renaming another over it, is safe.
 *
 * @throws CheckpointError when a file cannot be opened or does not hold a tensor's bytes, or parts of a quantized tensor do not fit.
 */
export const openWeightStore: OpenWeightStore = (tensors, quantized = [], { packed = false } = {}) => {
  const { WeightStore } = loadBinding();
  const columns = toColumns([...tensors], [...quantized]);
  try {
    const native = new WeightStore(
      columns.files,
      columns.names,
      columns.fileIndex,
      columns.offsets,
      columns.bytes,
      columns.types,
      columns.ranks,
      columns.dims,
      columns.quantizedNames,
      columns.quantized,
    );
    return new MappedWeightStore(native, columns.handles, columns.sizes, packed);
  } catch (cause) {
    throw nativeError(cause);
  }
};

/** The native side of a store that {@link openWeightStore} made. */
export function nativeStore(store: WeightStore): NativeWeightStore {
  if (store instanceof MappedWeightStore) return store.native;
  throw new EngineError(`expected a weight store made by openWeightStore, got ${show(store)}`);
}

/** What the engine calls a type; undefined where it has none, and no graph asks for tensors of it. */
function typeNumber(dtype: SafetensorsDType): number | undefined {
  return ELEMENT_TYPES[elementType(dtype)].onnx;
}

/** The dtype under which the addon holds a part of a quantized tensor: bytes, where it has no such type. */
function asBytes(part: TensorInfo): TensorInfo {
  return typeNumber(part.dtype) === undefined ? { ...part, dtype: 'U8', shape: [part.byteLength] } : part;
}

function toColumns(all: readonly TensorInfo[], quantized: readonly QuantizedTensor[]) {
  const tensors = all.filter(({ dtype }) => typeNumber(dtype) !== undefined);
  const handles = new Map<string, number>();
  const sizes = new Map<string, number>();
  const name = (name: string, handle: number, bytes: number) => {
    if (handles.has(name)) throw new CheckpointError(`tensor ${show(name)} is listed twice`);
    handles.set(name, handle);
    sizes.set(name, bytes);
  };
  tensors.forEach((tensor, i) => {
    name(tensor.name, i, tensor.byteLength);
  });
  const records = quantized.map((tensor) => {
    let bytes = 0;
    const record = quantizedRecord(tensor, (part) => {
      bytes += part.byteLength;
      return tensors.push(asBytes(part)) - 1;
    });
    return { name: tensor.name, record, bytes };
  });
  records.forEach((tensor, i) => {
    name(tensor.name, tensors.length + i, tensor.bytes);
  });
  return {
    ...places(tensors),
    handles,
    sizes,
    quantizedNames: quantized.map((tensor) => tensor.name),
    quantized: Float64Array.from(records.flatMap(({ record }) => record)),
  };
}

/** Where tensors lie, one entry a tensor in each column. */
function places(tensors: readonly TensorInfo[]) {
  const count = tensors.length;
  const files = new Map<string, number>();
  const fileIndex = new Uint32Array(count);
  const offsets = new Float64Array(count);
  const bytes = new Float64Array(count);
  const types = new Int32Array(count);
  const ranks = new Int32Array(count);
  const dims: number[] = [];
  tensors.forEach((tensor, i) => {
    const file = files.get(tensor.file) ?? files.size;
    files.set(tensor.file, file);
    fileIndex[i] = file;
    offsets[i] = tensor.offset;
    bytes[i] = tensor.byteLength;
    types[i] = typeNumber(tensor.dtype) as number;
    ranks[i] = tensor.shape.length;
    dims.push(...tensor.shape);
  });
  return {
    files: [...files.keys()],
    names: tensors.map((tensor) => tensor.name),
    fileIndex,
    offsets,
    bytes,
    types,
    ranks,
    dims: Float64Array.from(dims),
  };
}
