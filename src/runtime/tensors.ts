/** `Tensor`s on their way to and from the engine. */
import { type ArrayType, arrayType, ELEMENT_TYPES, isArrayType } from '../dtype.ts';
import { EngineError, expected, show } from '../errors.ts';
import { loadBinding, type NativeResult, type WrappedTensor } from './binding.ts';
import { Tensor } from './ort.ts';

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
  const download = async () => new ELEMENT_TYPES[type].array(await read()) as never;
  // The buffer is ours to know; onnxruntime-common only asks that there is one.
  const tensor = Tensor.fromGpuBuffer({} as never, { dataType: type, dims, download, dispose() {} });
  deviceTensors.set(tensor, { wrapped: wrapper, read });
  return tensor;
}

/**
 * A `Tensor` over bytes of this process, of a type for which JavaScript may have no array: one of bfloat16 calls itself float16, and
 * only the engine looks into it.
 */
export function hostTensor(
  type: 'float32' | 'float16' | 'bfloat16',
  bytes: Uint8Array,
  dims: readonly number[],
): Tensor {
  const name = type === 'bfloat16' ? 'float16' : type;
  const { array } = ELEMENT_TYPES[name];
  const data = new array(
    bytes.buffer as ArrayBuffer,
    bytes.byteOffset,
    bytes.byteLength / array.BYTES_PER_ELEMENT,
  );
  const tensor = new Tensor(name, data as never, dims);
  if (type === 'bfloat16')
    wrapped.set(tensor, loadBinding().wrapTensor(bytes, ELEMENT_TYPES.bfloat16.onnx, dims));
  return tensor;
}

/** Types of tensors over memory of a device. */
export type DeviceTensorType = Extract<ArrayType, 'float32' | 'float16' | 'int32' | 'int64'>;

/** The elements of a tensor now, wherever they are; unlike `getData`, as often as asked. */
export async function readTensor(tensor: Tensor): Promise<Tensor['data']> {
  const onDevice = deviceTensors.get(tensor);
  if (onDevice === undefined) return tensor.data;
  return new ELEMENT_TYPES[tensor.type as DeviceTensorType].array(await onDevice.read());
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
  if (!(tensor instanceof Tensor)) throw new EngineError(expected(where, tensor, 'a Tensor'));
  if (!isArrayType(tensor.type))
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
  return ELEMENT_TYPES[tensor.type].onnx;
}

/** A `Tensor` over an output the engine allocated; nothing is copied. */
export function toTensor(result: NativeResult, name: string): Tensor {
  const type = arrayType(result.type);
  if (type === undefined)
    throw new EngineError(
      `output '${name}' has data type ${result.type}, which JavaScript tensors cannot hold; add a Cast, or fetch into a tensor`,
    );
  return new Tensor(type, new ELEMENT_TYPES[type].array(result.buffer) as never, result.dims);
}
