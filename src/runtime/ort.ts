/**
 * The only place that knows onnxruntime-node: its `Tensor`, and the folder of its native files. The package itself is never loaded, as
 * that would open a second native addon in every thread. `Tensor` comes from the onnxruntime-common that belongs to it, with `require`,
 * because that is a class of its own for `import`, and onnxruntime-node uses the one for `require`.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { EngineError } from '../errors.ts';
import { moduleUrl } from './package-root.ts';

const require = createRequire(moduleUrl);

/** Elements of a tensor by their type; a float16 is its bits. */
export interface TensorData {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
  string: string[];
}

/**
 * A tensor, as the class of this name of onnxruntime-common. Its own declarations speak of a browser's types, which a program for Node.js
 * does not have.
 *
 * @typeParam T the type of its elements, where that is known
 */
export interface Tensor<T extends keyof TensorData = keyof TensorData> {
  readonly type: T;
  readonly dims: readonly number[];
  /** Elements in row-major order. @throws where they are not in this process's memory */
  readonly data: TensorData[T];
  /** Number of elements. */
  readonly size: number;
  /** Where the elements are, such as `cpu`. */
  readonly location: string;
  getData(releaseData?: boolean): Promise<TensorData[T]>;
  reshape(dims: readonly number[]): Tensor<T>;
  dispose(): void;
}

/** Makes tensors over memory that stays the caller's. */
export interface TensorConstructor {
  new <T extends keyof TensorData>(
    type: T,
    data: TensorData[T] | readonly number[],
    dims?: readonly number[],
  ): Tensor<T>;
  readonly prototype: Tensor;
  /** A tensor whose elements lie on a device. @internal */
  fromGpuBuffer(
    buffer: never,
    options: {
      readonly dataType: keyof TensorData;
      readonly dims: readonly number[];
      download(): Promise<TensorData[keyof TensorData]>;
      dispose(): void;
    },
  ): Tensor;
}

interface Used {
  readonly Tensor: TensorConstructor;
}

function load(): { ort: Used; fault: EngineError | undefined } {
  try {
    const nextToIt = createRequire(require.resolve('onnxruntime-node/package.json'));
    return { ort: nextToIt('onnxruntime-common') as Used, fault: undefined };
  } catch (cause) {
    const fault = new EngineError(
      `onnxruntime-node cannot be loaded: ${(cause as Error).message.split('\n')[0]}. Install it again with: npm install onnxruntime-node`,
      { cause },
    );
    return { ort: withoutEngine(fault), fault };
  }
}

/** What needs no engine, the doctor above all, works without onnxruntime-node; using the class says what is wrong. */
function withoutEngine(fault: EngineError): Used {
  class Missing {
    constructor() {
      throw fault;
    }
  }
  return { Tensor: Missing } as unknown as Used;
}

const { ort, fault } = load();

/** Why onnxruntime-node cannot be loaded; undefined where it can. */
export const ortFault = fault;

export const Tensor: TensorConstructor = ort.Tensor;

/** Folder of the installed onnxruntime-node. @throws EngineError when there is none. */
export function packageFolder(): string {
  try {
    return dirname(require.resolve('onnxruntime-node/package.json'));
  } catch (cause) {
    throw ortFault ?? new EngineError('onnxruntime-node is not installed', { cause });
  }
}

/** Folder of the installed onnxruntime-node's native files for this platform. @throws EngineError as {@link packageFolder}. */
export function nativeFolder(): string {
  return join(packageFolder(), 'bin', 'napi-v6', process.platform, process.arch);
}
