import type { TensorInfo } from '../safetensors/types.ts';
import type { QuantizedTensor } from '../weights/quantized-tensor.ts';
import type { NativeDevice, NativeDeviceStore, NativeRecording, RouterCounts } from './binding.ts';
import type { Tensor } from './ort.ts';
import type { ExpertBounds, ExpertPlace, ResidencyStats } from './residency.ts';

/** Tensors of a checkpoint in mapped files, known to the native side by handle. Reference-counted: sessions keep it alive. */
export interface WeightStore {
  /** Value of a weight attribute of our custom ops. Throws `EngineError` for an unknown name. */
  handle(name: string): number;
  /** Elements of a tensor as fp32, of a quantized one as its formula says; copies. For small tensors. */
  readFloat32(name: string): Float32Array;
  /**
   * Looks at every scale of the quantized tensors among these, off the event loop: a few hundredths of their bytes.
   * @param allowsZero whether a scale may be zero; none is that Switchyard rounded itself
   * @throws CheckpointError naming file, tensor, value and place of one that is no finite number
   */
  checkScales(names: Iterable<string>, allowsZero?: boolean): Promise<void>;
  /**
   * Rounds rows of a weight to codes, off the event loop.
   * @throws CheckpointError naming file and tensor of a weight that is no finite number
   */
  round(request: RoundRequest): Promise<RoundedRows>;
  /**
   * Maps the pages of tensors in the background, before their first use would do so one fault at a time. Speed only; does
   * nothing where they would not fit into memory. A packed store makes copies in large pages, which are read instead.
   * @throws EngineError where there is no memory for copies
   */
  prefetch(names: Iterable<string>): void;
  /**
   * Brings parts of tensors into memory, in their order, and has the system keep as many as it lets this process keep, until the files are
   * unmapped. Those that it does not are read in all the same.
   */
  pin(slices: readonly TensorSlice[]): Promise<PinnedBytes>;
  /** Has no more experts in memory than there is room for, and reads others from the disk when they are chosen. Before sessions open. */
  boundExperts(bounds: ExpertBounds): void;
  /**
   * Makes the room, once a session is open; does nothing where experts are not bounded.
   * @throws InputError where that is too little
   */
  prepareExperts(): Promise<void>;
  /**
   * Brings experts that stay, the most wanted first.
   * @param maxBytes of them; default: half of the room
   * @returns how many stay by now
   */
  pinExperts(experts: readonly ExpertPlace[], maxBytes?: number): Promise<number>;
  /** What bounded experts have cost; undefined where they are not bounded. */
  readonly residency: ResidencyStats | undefined;
  /** Drops this owner's reference; the files are unmapped when no session uses them. */
  dispose(): void;
}
/** Of `count` matrices that lie one after another in a tensor, the one at `index`. */
export interface TensorSlice {
  readonly name: string;
  readonly index: number;
  readonly count: number;
}

/** What came of pinning, in bytes of the slices. */
export interface PinnedBytes {
  /** Stay in memory. */
  readonly locked: number;
  /** Were brought in, and may be dropped where memory is short. */
  readonly read: number;
}

/** Rows of a stored weight, and how they are rounded. */
export interface RoundRequest {
  readonly name: string;
  /** Which of several matrices of one tensor. */
  readonly matrix?: number;
  /** Element (n, k) is stored in row firstRow + n at firstColumn + k; where it is transposed, in row firstRow + k at firstColumn + n. */
  readonly firstRow: number;
  readonly firstColumn: number;
  readonly rows: number;
  readonly columns: number;
  readonly transposed?: boolean;
  readonly scheme: RoundScheme;
}

/** How weights are rounded: 8 bits with one fp32 scale a row, or 4 bits with bf16 scales of groups. */
export type RoundScheme =
  | { readonly bits: 8 }
  | {
      readonly bits: 4;
      /** Columns that share a scale; a multiple of 8 that divides them. */
      readonly group: number;
      /** Whether each group has a zero point of its own. */
      readonly zeroPoints: boolean;
    };

/** Rounded rows, in the layouts of compressed-tensors. */
export interface RoundedRows {
  /** int8 `[rows, columns]`, or two a byte, the first in the low half. */
  readonly codes: Buffer;
  /** fp32 `[rows]`, or bf16 `[rows, groups]`. */
  readonly scales: Buffer;
  /** 32-bit words `[⌈rows / 8⌉, groups]` of eight neighbouring rows; empty without zero points. */
  readonly zeros: Buffer;
}

/** Opens tensors of files as they are, and quantized ones that are made of others. */
export type OpenWeightStore = (
  tensors: Iterable<TensorInfo>,
  quantized?: Iterable<QuantizedTensor>,
  options?: { packed?: boolean },
) => WeightStore;

/** The weights of a model on a device, as a session needs to know them; `DeviceWeights` is one. */
export interface StoredOnDevice {
  readonly device: { readonly native: NativeDevice };
  readonly native: NativeDeviceStore;
}

export interface SessionOptions {
  store: WeightStore;
  /** Threads of the session's pool, of which no more are used than there are processors; default as in `defaultThreads()`. */
  threads?: number;
  /** Where the weights are on a device, which then runs the graph instead of the CPU. */
  weights?: StoredOnDevice | undefined;
  /** Graph inputs that are bound once to a stored tensor's bytes, by tensor name, and need no feed. */
  boundInputs?: Readonly<Record<string, string>>;
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onExpertsCalls?: ((calls: readonly number[]) => void) | undefined;
}

/** An open graph. Runs are asynchronous, off the event loop, and may overlap. */
export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * @param feeds every graph input that is not bound
   * @param fetches outputs wanted: a name maps to null (engine allocates) or to the tensor to write in place. The same tensor may be
   *   fed and fetched (KV cache).
   * @param options `onExpertsCalls` hears how many `MoeExperts` nodes ran, by value of their selector
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options?: RunOptions,
  ): Promise<Record<string, Tensor>>;
  /** Waits for runs in progress, then frees. Idempotent. */
  dispose(): Promise<void>;
}
/** A session as `openSession` gives it: on a device, runs can be recorded. */
export interface RecordingSession extends Session {
  /** What each router has done, over all runs; none on a device. */
  routedTokens(): readonly RouterCounts[];
  /** @throws EngineError where the graph cannot be recorded */
  capture(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor>>,
  ): Promise<NativeRecording>;
}
export type OpenSession = (model: Uint8Array, options: SessionOptions) => Promise<RecordingSession>;
