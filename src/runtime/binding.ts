/** The addon's interface and its loader. */
import { existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { nativeError } from './native-error.ts';
import {
  ADDON,
  findNativeFile,
  missingAddon,
  platformFault,
  thisPlatform,
  unloadableAddon,
  unsupportedPlatform,
} from './native-files.ts';
import { nativeFolder, ortFault } from './ort.ts';
import { moduleUrl, packageRoot } from './package-root.ts';
import type { ResidencyCounts } from './residency.ts';

/** A tensor's memory as the engine sees it; made once a `Tensor`, see `tensors.ts`. */
export type WrappedTensor = { readonly __brand: 'WrappedTensor' };

export interface NativeWeightStore {
  readFloat32(handle: number): Float32Array;
  checkScales(handles: Int32Array, allowsZero: boolean): Promise<void>;
  /**
   * Rounds rows of a weight to codes.
   * @param request handle, matrix, first row, first column, rows, columns, transposed, bits, group, zero points: `RoundRequest` of
   *   kernels/engine/round_weights.h
   */
  roundWeights(request: Float64Array): Promise<NativeRoundedRows>;
  prefetch(handles: Int32Array, copied: boolean): void;
  /** @param slices handle, index and count of each: `TensorSlice` of kernels/weights/pinned_pages.h */
  pin(slices: Int32Array): Promise<{ readonly locked: number; readonly read: number }>;
  /** Has only some experts in memory from now on; sessions that are open already go on as before. */
  boundExperts(maxBytes: number, otherBytes: number): void;
  /** Makes room for those of the sessions that are open. */
  prepareExperts(): Promise<void>;
  /**
   * @param pinned handle of the gate and place of each expert that is to stay, the most wanted first
   * @param maxBytes 0 for half of their room
   * @returns how many stay by now
   */
  pinExperts(pinned: Int32Array, maxBytes: number): Promise<number>;
  expertsStatus(): ResidencyCounts;
  dispose(): void;
}

/** Rows in the layouts of compressed-tensors. */
export interface NativeRoundedRows {
  readonly codes: Buffer;
  readonly scales: Buffer;
  /** Empty without zero points. */
  readonly zeros: Buffer;
}

/** Name, ONNX TensorProto.DataType number, and shape (a string is a symbolic dimension) of a graph input or output. */
export interface NativeValueInfo {
  readonly name: string;
  readonly type: number;
  readonly shape: (number | string)[];
}

/** An output the engine allocated. */
export interface NativeResult {
  readonly type: number;
  readonly dims: number[];
  readonly buffer: ArrayBuffer;
}

/** What one router has done. */
export interface RouterCounts {
  /** Index of its layer. */
  readonly layer: number;
  /** Tokens sent to each expert. */
  readonly tokens: Float64Array;
  /** Runs that sent any there. */
  readonly reads: Float64Array;
}

export interface NativeSession {
  /** Of its pool; fewer than were asked for where the system grants no more. */
  readonly threads: number;
  /** Inputs that need a feed, in feeding order. */
  readonly inputs: NativeValueInfo[];
  readonly outputs: NativeValueInfo[];
  /**
   * @param feeds one a graph input, in order
   * @param outputs indices of the outputs wanted
   * @param fetches for each of them the tensor to write, or null
   * @param id names the run for `cancelRun`; 0 for none
   * @returns for each output null where it was written in place, else the result; and the calls of MoeExperts, by
   *   implementation
   */
  run(
    feeds: WrappedTensor[],
    outputs: number[],
    fetches: (WrappedTensor | null)[],
    id: number,
  ): Promise<{
    readonly results: (NativeResult | null)[];
    readonly expertsCalls: number[];
  }>;
  /** Records a run on a device instead of executing it; with the calls of MoeExperts that a replay stands for. */
  capture(feeds: WrappedTensor[], outputs: number[], fetches: WrappedTensor[]): Promise<NativeRecording>;
  /** How many tokens each router has sent to each expert, over all runs, and in how many. */
  routedTokens(): RouterCounts[];
  /** Frees the session; call once, when no run is in progress. */
  dispose(): Promise<void>;
}

/** Memory of a device, weights on one, and a recorded run, as the addon knows them. */
export type NativeMemory = { readonly __brand: 'DeviceMemory' };
export type NativeDeviceStore = { readonly __brand: 'DeviceStore' };
export type NativeCapture = { readonly __brand: 'CapturedRun' };
export interface NativeRecording {
  readonly run: NativeCapture;
  readonly expertsCalls: number[];
}

export interface NativeDeviceInfo {
  readonly name: string;
  readonly pciId: string;
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
}

/** Bytes of one memory that go to another. */
export interface NativeStretch {
  readonly from: NativeMemory;
  readonly fromOffset: number;
  readonly to: NativeMemory;
  readonly toOffset: number;
  readonly bytes: number;
}

export interface NativeDevice {
  info(): NativeDeviceInfo;
  /** Memory filled with zeros. */
  allocate(bytes: number, purpose: string): Promise<NativeMemory>;
  free(memory: NativeMemory): void;
  tensor(memory: NativeMemory, offset: number, type: number, dims: readonly number[]): WrappedTensor;
  write(memory: NativeMemory, offset: number, bytes: Uint8Array): Promise<void>;
  read(memory: NativeMemory, offset: number, bytes: number): Promise<ArrayBuffer>;
  /** One after the other; what a stretch is copied from and to must not overlap. */
  copy(stretches: readonly NativeStretch[]): Promise<void>;
  /**
   * @param dtype ONNX data type number of the weights on the device
   * @param pinned handle of the gate and place of each expert that is to stay, the most wanted first
   */
  openStore(
    store: NativeWeightStore,
    dtype: number,
    maxBytes: number,
    pinned: Int32Array,
    maxPinnedBytes: number,
  ): NativeDeviceStore;
  /** Whether the next upload can bring these tensors ahead of the sessions that need them, and will. */
  anticipate(store: NativeDeviceStore, handles: Int32Array): boolean;
  /** Returns how many bytes there were to bring; the last of `onProgress` may come after that. */
  upload(
    store: NativeDeviceStore,
    onProgress: (done: number, total: number) => void,
    id: number,
  ): Promise<number>;
  /** Frees the weights once no session uses them. */
  closeStore(store: NativeDeviceStore): Promise<void>;
  storeStatus(store: NativeDeviceStore): ResidencyCounts;
  /** Writes the inputs, runs, reads the outputs. */
  replay(
    captured: NativeCapture,
    inputs: NativeMemory,
    bytes: Uint8Array,
    outputs: NativeMemory[],
    sizes: number[],
  ): Promise<ArrayBuffer[]>;
  release(captured: NativeCapture): Promise<void>;
  /** Bytes a second, read and written ones counted. */
  copyRate(): Promise<number>;
  /** Gives the device up once nothing uses it any more. */
  dispose(): Promise<void>;
}

export interface Binding {
  /** Opens libonnxruntime, once a process, and returns its version. */
  openEngine(path: string): string;
  /** One entry a tensor in each column; `dims` holds all shapes one after another. */
  WeightStore: new (
    files: string[],
    names: string[],
    fileIndex: Uint32Array,
    offsets: Float64Array,
    bytes: Float64Array,
    types: Int32Array,
    ranks: Int32Array,
    dims: Float64Array,
    quantizedNames: string[],
    quantized: Float64Array,
  ) => NativeWeightStore;
  openSession(
    model: Uint8Array,
    store: NativeWeightStore,
    threads: number,
    boundInputs: string[],
    boundHandles: number[],
    device: NativeDevice | null,
    deviceStore: NativeDeviceStore | null,
  ): Promise<NativeSession>;
  /** Devices that a library knows. */
  listDevices(library: string): Promise<NativeDeviceInfo[]>;
  /** The provider of ONNX Runtime that a library's devices need; null for none. */
  deviceProvider(library: string): string | null;
  openDevice(library: string, index: number): Promise<NativeDevice>;
  wrapTensor(bytes: Uint8Array, type: number, dims: readonly number[]): WrappedTensor;
  /** Ends a run early; it then rejects with the `code` that `isCancelled` knows. */
  cancelRun(id: number): void;
  /**
   * `problem` says why the environment's SWITCHYARD_CPU_ISA was not followed; empty otherwise. `cores` are the physical ones that this
   * process may use; 0 off Windows. `largePageBytes` is 0 where there are no large pages.
   */
  cpuInfo(): { isa: string; features: string[]; problem: string; cores: number; largePageBytes: number };
  measureReadBandwidth(
    bytes: number,
    seconds: number,
    threads: number,
  ): Promise<{ gigabytesPerSecond: number; pattern: string }>;
  /** @param precision 0 for float32, 1 for bfloat16 */
  measureFlops(precision: number, seconds: number, threads: number): Promise<number>;
}

let lastRunId = 0;

/** A name for a run, for `cancelRun`. */
export function nextRunId(): number {
  return ++lastRunId;
}

const libraryNames: Readonly<Record<string, string>> = {
  linux: 'libonnxruntime.so.1',
  darwin: 'libonnxruntime.1.dylib',
  win32: 'onnxruntime.dll',
};

let loaded: { binding: Binding; version: string } | undefined;

/** The addon with its engine open. @throws EngineError that says what is missing and what to do. */
export function loadBinding(): Binding {
  return load().binding;
}

/** Version of the ONNX Runtime library in use, such as `1.30.0`. @throws EngineError as {@link loadBinding}. */
export function engineVersion(): string {
  return load().version;
}

function load(): { binding: Binding; version: string } {
  if (loaded === undefined) {
    if (ortFault) throw ortFault;
    const binding = loadAddon();
    loaded = { binding, version: openEngine(binding) };
  }
  return loaded;
}

function loadAddon(): Binding {
  const root = packageRoot();
  const addon = findNativeFile(ADDON, root);
  if (addon.origin === 'missing') throw new EngineError(missingAddon(root));
  try {
    return createRequire(moduleUrl)(addon.path) as Binding;
  } catch (cause) {
    throw new EngineError(unloadableAddon(addon, root, cause as Error), { cause });
  }
}

function openEngine(binding: Binding): string {
  const path = libraryPath();
  if (!existsSync(path)) {
    throw new EngineError(
      `ONNX Runtime's library is missing: there is no ${path}. Reinstall onnxruntime-node, or set ` +
        'SWITCHYARD_ONNXRUNTIME to the path of a libonnxruntime',
    );
  }
  const { problem } = binding.cpuInfo();
  if (problem !== '') throw new EngineError(problem);
  try {
    return binding.openEngine(realpathSync(path));
  } catch (cause) {
    const fault = platformFault(thisPlatform());
    throw fault === undefined ? nativeError(cause) : new EngineError(fault, { cause });
  }
}

/** The libonnxruntime to use, be it there or not. @throws EngineError on a platform without one. */
export function libraryPath(): string {
  const override = process.env.SWITCHYARD_ONNXRUNTIME;
  if (override) return override;
  const fault = unsupportedPlatform(process.platform, process.arch);
  if (fault !== undefined) throw new EngineError(fault);
  return join(nativeFolder(), libraryNames[process.platform] as string);
}
