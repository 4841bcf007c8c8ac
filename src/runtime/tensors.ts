/** `Tensor`s on their way to and from the engine. */
import { EngineError, show } from '../errors.ts';
import { loadBinding, type NativeResult, type WrappedTensor } from './binding.ts';
import { Tensor, type TensorType } from './ort.ts';

/** Names of ONNX TensorProto.DataType numbers, where a JavaScript tensor can hold the type. */
const typeNames: readonly (TensorType | undefined)[] = [
  undefined,
  'float32',
  'uint8',
  'int8',
  'uint16',
  'int16',
  'int32',
  'int64',
  undefined,
  'bool',
  'float16',
  'float64',
  'uint32',
  'uint64',
];
const typeNumbers = new Map(
  typeNames.flatMap((name, number) => (name === undefined ? [] : [[name, number]])),
);

const arrays = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  float16: Uint16Array,
  float64: Float64Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
} as const;

export const BFLOAT16 = 16;

/** Name of a data type number, or undefined where JavaScript has no such tensor (bfloat16, string, …). */
export function typeName(number: number): TensorType | undefined {
  return typeNames[number];
}

// A decode step feeds and fetches the same hundred cache tensors every time: describe each to the engine once.
const wrapped = new WeakMap<Tensor, WrappedTensor>();

/** A tensor whose elements a device has. */
interface OnDevice {
  readonly wrapped: WrappedTensor;
  readonly read: () => Promise<ArrayBuffer>;
}
const deviceTensors = new WeakMap<Tensor, OnDevice>();

/**
 * A `Tensor` over memory of a device, of location `gpu-buffer`.
 * @param read fetches its bytes
 */
export function deviceTensor(
  type: DeviceTensorType,
  dims: readonly number[],
  wrapper: WrappedTensor,
  read: () => Promise<ArrayBuffer>,
): Tensor {
  const download = async () => new arrays[type](await read()) as never;
  // The buffer is ours to know; onnxruntime-common only asks that there is one.
  const tensor = Tensor.fromGpuBuffer({} as never, { dataType: type, dims, download, dispose() {} });
  deviceTensors.set(tensor, { wrapped: wrapper, read });
  return tensor;
}

export type DeviceTensorType = 'float32' | 'float16' | 'int32' | 'int64';

/** The elements of a tensor now, wherever they are; unlike `getData`, as often as asked. */
export async function readTensor(tensor: Tensor): Promise<Tensor['data']> {
  const onDevice = deviceTensors.get(tensor);
  if (onDevice === undefined) return tensor.data;
  return new arrays[tensor.type as DeviceTensorType](await onDevice.read());
}

/**
 * The engine's view of a tensor's memory. The memory must not be transferred to another thread during a run.
 *
 * @param where names the feed or fetch, for messages
 */
export function wrapTensor(tensor: Tensor, where: string): WrappedTensor {
  const onDevice = deviceTensors.get(tensor);
  if (onDevice !== undefined) return onDevice.wrapped;
  const known = wrapped.get(tensor);
  if (known !== undefined) {
    if (tensor.location === 'cpu' && tensor.data.length === tensor.size) return known;
    wrapped.delete(tensor);
  }
  const type = checkTensor(tensor, where);
  const data = tensor.data as Exclude<Tensor['data'], string[]>;
  let wrapper: WrappedTensor;
  try {
    // As bytes: N-API does not know every kind of typed array, such as Float16Array.
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    wrapper = loadBinding().wrapTensor(bytes, type, tensor.dims);
  } catch (cause) {
    throw new EngineError(`${where}: ${(cause as Error).message}`, { cause });
  }
  wrapped.set(tensor, wrapper);
  return wrapper;
}

/** Data type number of a tensor the engine can use. */
function checkTensor(tensor: Tensor, where: string): number {
  if (!(tensor instanceof Tensor)) throw new EngineError(`${where} is ${show(tensor)}; expected a Tensor`);
  const type = typeNumbers.get(tensor.type);
  if (type === undefined)
    throw new EngineError(`${where} is a ${tensor.type} tensor, which the engine cannot take`);
  if (tensor.location !== 'cpu') {
    throw new EngineError(
      `${where} has no data in memory (location ${show(tensor.location)}); was it disposed?`,
    );
  }
  if (tensor.data.length !== tensor.size) {
    throw new EngineError(`${where} has lost its memory: its buffer was transferred to another thread`);
  }
  if ((tensor.data as Float32Array).buffer instanceof SharedArrayBuffer) {
    throw new EngineError(`${where} lies in a SharedArrayBuffer; copy it into an ordinary one`);
  }
  return type;
}

/** A `Tensor` over an output the engine allocated; nothing is copied. */
export function toTensor(result: NativeResult): Tensor {
  const type = typeName(result.type) as keyof typeof arrays;
  return new Tensor(type, new arrays[type](result.buffer) as never, result.dims);
}
