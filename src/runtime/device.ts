/** Devices that are not the CPU: opening one, its memory, weights on it, recorded runs. */
import { existsSync } from 'node:fs';
import { type DType, ELEMENT_TYPES } from '../dtype.ts';
import { abortError, abortIf, EngineError, InputError, onAbort } from '../errors.ts';
import {
  loadBinding,
  type NativeCapture,
  type NativeDevice,
  type NativeDeviceInfo,
  type NativeDeviceStore,
  type NativeMemory,
  nextRunId,
} from './binding.ts';
import { guard, isCancelled, nativeError } from './native-error.ts';
import { BUILD_CUDA, CUDA_LIBRARY, findNativeFile } from './native-files.ts';
import type { Tensor } from './ort.ts';
import { type ExpertPlace, type ResidencyStats, residencyStats } from './residency.ts';
import { type DeviceTensorType, deviceTensor } from './tensors.ts';
import type { WeightStore } from './types.ts';
import { nativeStore } from './weight-store.ts';

/** What is aborted, in messages. */
const UPLOAD = 'the upload of the weights';

/** Name, PCI address, memory in bytes and compute capability of a GPU. */
export type DeviceInfo = NativeDeviceInfo;

/** Bounds of weights on a device. */
export interface WeightLimits {
  /** Bound on their memory; 0, the default: none. */
  readonly maxBytes?: number;
  /** Experts that are to stay where not all can, the most wanted first; as many do as there is room for. */
  readonly pinned?: readonly ExpertPlace[];
  /** Bound on the memory of these; 0, the default: half of the experts' room. */
  readonly maxPinnedBytes?: number;
}

/** Where the CUDA library is, or would be once it is built, or the file that SWITCHYARD_CUDA_LIBRARY names. */
export function cudaLibraryPath(): string {
  return process.env.SWITCHYARD_CUDA_LIBRARY || findNativeFile(CUDA_LIBRARY).path;
}

/** The CUDA library's file. @throws EngineError when there is none, saying how to build it */
function existingLibrary(): string {
  const path = cudaLibraryPath();
  if (existsSync(path)) return path;
  const remedy = process.env.SWITCHYARD_CUDA_LIBRARY
    ? `SWITCHYARD_CUDA_LIBRARY names it; unset it, or build the library with: ${BUILD_CUDA}`
    : `build it with: ${BUILD_CUDA} (nvcc 12.4 or newer is needed)`;
  throw new EngineError(`Switchyard's CUDA library is missing: there is no ${path}; ${remedy}`);
}

/**
 * Whether the CUDA library's devices need ONNX Runtime's CUDA provider: a GPU does, an emulation does not. True without a
 * library.
 * @throws EngineError when the library does not load
 */
export function cudaNeedsProvider(): boolean {
  const path = cudaLibraryPath();
  if (!existsSync(path)) return true;
  try {
    return loadBinding().deviceProvider(path) !== null;
  } catch (cause) {
    throw nativeError(cause);
  }
}

/** The GPUs that Switchyard could use. @throws EngineError when library or driver are missing */
export async function listDevices(): Promise<readonly DeviceInfo[]> {
  const path = existingLibrary();
  return guard(() => loadBinding().listDevices(path));
}

/** A GPU. All work on it is done in the order it was asked for. */
export class Device {
  readonly index: number;
  readonly name: string;
  /** Of its memory. */
  readonly totalBytes: number;
  /** For this folder only. */
  readonly native: NativeDevice;
  #disposal: Promise<void> | undefined;

  private constructor(index: number, native: NativeDevice, { name, totalBytes }: DeviceInfo) {
    this.index = index;
    this.native = native;
    this.name = name;
    this.totalBytes = totalBytes;
  }

  /** @throws EngineError when library, driver or GPU are missing */
  static async open(index = 0): Promise<Device> {
    const path = existingLibrary();
    const devices = await listDevices();
    if (index >= devices.length) {
      const found = devices.length === 0 ? 'none' : devices.map(({ name }) => name).join(', ');
      throw new EngineError(`there is no GPU ${index}: found ${found}; count from 0`);
    }
    const info = devices[index] as DeviceInfo;
    const { name, major, minor } = info;
    if (major < 8)
      throw new EngineError(
        `GPU ${index}, ${name}, has compute capability ${major}.${minor}; Switchyard's kernels need 8.0 or newer: use device cpu`,
      );
    return new Device(index, await guard(() => loadBinding().openDevice(path, index)), info);
  }

  get info(): DeviceInfo {
    return this.native.info();
  }

  /**
   * Memory filled with zeros.
   * @param purpose what for, for the message when there is no room
   */
  async allocate(bytes: number, purpose: string): Promise<DeviceMemory> {
    return new DeviceMemory(this, await guard(() => this.native.allocate(bytes, purpose)), bytes);
  }

  /** Copies stretches of memory one after the other; no stretch may overlap with where it goes. */
  async copy(stretches: readonly MemoryStretch[]): Promise<void> {
    await guard(() =>
      this.native.copy(
        stretches.map(({ from, to, ...where }) => ({ from: from.native, to: to.native, ...where })),
      ),
    );
  }

  openWeights(
    store: WeightStore,
    dtype: DType,
    { maxBytes = 0, pinned = [], maxPinnedBytes = 0 }: WeightLimits = {},
  ): DeviceWeights {
    const places = Int32Array.from(pinned.flatMap(({ gate, index }) => [store.handle(gate), index]));
    const { onnx } = ELEMENT_TYPES[dtype];
    const opened = this.native.openStore(nativeStore(store), onnx, maxBytes, places, maxPinnedBytes);
    return new DeviceWeights(this, dtype, opened);
  }

  /** Gives the device up: its memory goes back once no session, weights or tensors are left on it. Idempotent. */
  dispose(): Promise<void> {
    this.#disposal ??= guard(() => this.native.dispose());
    return this.#disposal;
  }

  /** GB/s (1e9) of copies within the device's memory, read and written bytes counted. */
  async measureCopyRate(): Promise<number> {
    return (await guard(() => this.native.copyRate())) / 1e9;
  }
}

/** Bytes of one memory that go to another. */
export interface MemoryStretch {
  readonly from: DeviceMemory;
  readonly fromOffset: number;
  readonly to: DeviceMemory;
  readonly toOffset: number;
  readonly bytes: number;
}

/** A piece of a device's memory. Freed by `dispose`, or with the last tensor on it. */
export class DeviceMemory {
  readonly bytes: number;
  readonly native: NativeMemory;
  readonly #device: Device;

  constructor(device: Device, native: NativeMemory, bytes: number) {
    this.#device = device;
    this.native = native;
    this.bytes = bytes;
  }

  /** A tensor over part of the memory. One of `bfloat16` calls itself float16, because JavaScript has no such type. */
  tensor(type: DeviceTensorType | 'bfloat16', dims: readonly number[], offset = 0): Tensor {
    const { onnx: number, bytes: elementBytes } = ELEMENT_TYPES[type];
    const bytes = dims.reduce((a, b) => a * b, 1) * elementBytes;
    const wrapped = this.#device.native.tensor(this.native, offset, number, dims);
    const read = () => this.read(offset, bytes);
    return deviceTensor(type === 'bfloat16' ? 'float16' : type, dims, wrapped, read);
  }

  async write(bytes: Uint8Array, offset = 0): Promise<void> {
    await guard(() => this.#device.native.write(this.native, offset, bytes));
  }

  async read(offset: number, bytes: number): Promise<ArrayBuffer> {
    return guard(() => this.#device.native.read(this.native, offset, bytes));
  }

  dispose(): void {
    this.#device.native.free(this.native);
  }
}

/** Hears how far an upload is, in bytes. */
export type UploadProgress = (done: number, total: number) => void;

/** The weights of a model on a device, shared by its sessions. */
export class DeviceWeights {
  readonly device: Device;
  readonly dtype: DType;
  readonly native: NativeDeviceStore;
  /** What is brought before sessions ask for it. */
  #ahead: { readonly id: number; readonly done: Promise<void> } | undefined;
  #disposal: Promise<void> | undefined;

  constructor(device: Device, dtype: DType, native: NativeDeviceStore) {
    this.device = device;
    this.dtype = dtype;
    this.native = native;
  }

  /**
   * Begins to bring tensors before the sessions that need them are open; `upload` waits for that, and tells what went wrong. Does
   * nothing where it takes the sessions to know what is needed: within a bound, and for quantized weights.
   *
   * @param handles tensors that sessions opened before the next `upload` will have a device keep
   */
  bringAhead(handles: Iterable<number>, onProgress?: UploadProgress, signal?: AbortSignal): void {
    if (!this.device.native.anticipate(this.native, Int32Array.from(handles))) return;
    const id = nextRunId();
    const done = this.#bring(id, onProgress, signal);
    done.catch(() => {});
    this.#ahead = { id, done };
  }

  /**
   * Brings what the sessions opened so far need. Quick where nothing is new.
   * @param onProgress hears bytes done and in total; what it throws ends the upload
   * @throws EngineError when there is no room, naming tensor, need and free memory; InputError where `maxMemory` is too little;
   *   AbortError
   */
  async upload(onProgress?: UploadProgress, signal?: AbortSignal): Promise<void> {
    await this.#ahead?.done;
    this.#ahead = undefined;
    await this.#bring(nextRunId(), onProgress, signal);
  }

  async #bring(id: number, onProgress: UploadProgress = () => {}, signal?: AbortSignal): Promise<void> {
    abortIf(signal, UPLOAD);
    const cancel = () => loadBinding().cancelRun(id);
    const listener = new UploadListener(onProgress, cancel);
    const stop = onAbort(signal, cancel);
    try {
      listener.finish(await this.device.native.upload(this.native, listener.report, id));
    } catch (cause) {
      if (listener.fault) throw listener.fault.error;
      if (signal?.aborted && isCancelled(cause)) throw abortError(signal, UPLOAD);
      const { message } = cause as Error;
      if (/^(?:maxMemory|pinnedExperts)/.test(message)) throw new InputError(message, { cause });
      throw nativeError(cause);
    } finally {
      listener.end();
      stop();
    }
    abortIf(signal, UPLOAD);
  }

  /** Frees the weights once no session uses them. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#close();
    return this.#disposal;
  }

  async #close(): Promise<void> {
    if (this.#ahead) {
      loadBinding().cancelRun(this.#ahead.id);
      await this.#ahead.done.catch(() => {});
    }
    await guard(() => this.device.native.closeStore(this.native));
  }

  get stats(): ResidencyStats {
    return residencyStats(this.device.native.storeStatus(this.native));
  }
}

/** Hands an upload's progress on, up to its end and no further, and ends the upload if that throws. */
class UploadListener {
  fault: { readonly error: unknown } | undefined;
  readonly #onProgress: (done: number, total: number) => void;
  readonly #cancel: () => void;
  #reported = 0;
  #hasEnded = false;

  constructor(onProgress: (done: number, total: number) => void, cancel: () => void) {
    this.#onProgress = onProgress;
    this.#cancel = cancel;
  }

  readonly report = (done: number, total: number): void => {
    if (this.fault || this.#hasEnded) return;
    this.#reported = done;
    try {
      this.#onProgress(done, total);
    } catch (error) {
      this.fault = { error };
      this.#cancel();
    }
  };

  /** Reports the end if that is still on its way. Throws what the listener threw. */
  finish(total: number): void {
    if (this.#reported < total) this.report(total, total);
    if (this.fault) throw this.fault.error;
  }

  /** Nothing is reported any more, though there may be more on its way. */
  end(): void {
    this.#hasEnded = true;
  }
}

/** A run recorded with `capture`, its inputs side by side in one piece of memory. */
export class CapturedRun {
  readonly #device: Device;
  readonly #native: NativeCapture;
  #releasing: Promise<void> | undefined;

  constructor(device: Device, native: NativeCapture) {
    this.#device = device;
    this.#native = native;
  }

  /** Writes `bytes` to the inputs, runs, and reads the outputs: of each its first bytes. */
  async replay(
    inputs: DeviceMemory,
    bytes: Uint8Array,
    outputs: readonly { readonly memory: DeviceMemory; readonly bytes: number }[],
  ): Promise<ArrayBuffer[]> {
    const memories = outputs.map(({ memory }) => memory.native);
    const sizes = outputs.map((output) => output.bytes);
    return guard(() => this.#device.native.replay(this.#native, inputs.native, bytes, memories, sizes));
  }

  release(): Promise<void> {
    this.#releasing ??= guard(() => this.#device.native.release(this.#native));
    return this.#releasing;
  }
}
