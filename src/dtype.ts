/** Element types of tensors: their names, numbers and sizes, in this one table. */

/** By ONNX's name in lower case: safetensors' name, ONNX `TensorProto.DataType`, bytes of an element, and its array in JavaScript. */
export const ELEMENT_TYPES = {
  float32: { safetensors: 'F32', onnx: 1, bytes: 4, array: Float32Array },
  uint8: { safetensors: 'U8', onnx: 2, bytes: 1, array: Uint8Array },
  int8: { safetensors: 'I8', onnx: 3, bytes: 1, array: Int8Array },
  uint16: { safetensors: 'U16', onnx: 4, bytes: 2, array: Uint16Array },
  int16: { safetensors: 'I16', onnx: 5, bytes: 2, array: Int16Array },
  int32: { safetensors: 'I32', onnx: 6, bytes: 4, array: Int32Array },
  int64: { safetensors: 'I64', onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { safetensors: 'BOOL', onnx: 9, bytes: 1, array: Uint8Array },
  float16: { safetensors: 'F16', onnx: 10, bytes: 2, array: Uint16Array },
  float64: { safetensors: 'F64', onnx: 11, bytes: 8, array: Float64Array },
  uint32: { safetensors: 'U32', onnx: 12, bytes: 4, array: Uint32Array },
  uint64: { safetensors: 'U64', onnx: 13, bytes: 8, array: BigUint64Array },
  bfloat16: { safetensors: 'BF16', onnx: 16, bytes: 2, array: Uint16Array },
  float8e4m3fn: { safetensors: 'F8_E4M3', onnx: 17, bytes: 1, array: Uint8Array },
  float8e5m2: { safetensors: 'F8_E5M2', onnx: 19, bytes: 1, array: Uint8Array },
} as const satisfies Record<string, ElementTypeRow>;

interface ElementTypeRow {
  readonly safetensors: string;
  readonly onnx: number;
  readonly bytes: number;
  readonly array: { readonly BYTES_PER_ELEMENT: number };
}

export type ElementType = keyof typeof ELEMENT_TYPES;
export type SafetensorsDType = (typeof ELEMENT_TYPES)[ElementType]['safetensors'];

/** Precisions a model can compute in, by the names that config files and callers write. */
export const DTYPES = ['float32', 'bfloat16', 'float16'] as const satisfies readonly ElementType[];
export type DType = (typeof DTYPES)[number];

/** safetensors' names of the element types that weights to compute with may have. */
export type WeightDType = (typeof ELEMENT_TYPES)[DType]['safetensors'];

const BY_SAFETENSORS: ReadonlyMap<string, ElementType> = new Map(
  (Object.keys(ELEMENT_TYPES) as ElementType[]).map((type) => [ELEMENT_TYPES[type].safetensors, type]),
);

/** The element type of a name in a safetensors header; undefined for a name that the format does not have. */
export function elementType(safetensors: SafetensorsDType): ElementType;
export function elementType(safetensors: string): ElementType | undefined;
export function elementType(safetensors: string): ElementType | undefined {
  return BY_SAFETENSORS.get(safetensors);
}

/** The precision that weights of a stored type call for; undefined where no model computes in it. */
export function dtypeOf(safetensors: string): DType | undefined {
  const type = elementType(safetensors);
  return DTYPES.find((dtype) => dtype === type);
}

/** Whether weights of a stored type can be computed with. */
export function isWeightDType(safetensors: string): safetensors is WeightDType {
  return dtypeOf(safetensors) !== undefined;
}
