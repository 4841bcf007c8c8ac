/** Element types of tensors: their names, numbers and sizes, in this one table. */
import { didYouMean } from './errors.ts';

/**
 * By ONNX's name in lower case: safetensors' name; ONNX `TensorProto.DataType`, none for what the engine cannot take; bytes of an
 * element; and the array that holds a `Tensor`, none where JavaScript has no such tensors.
 */
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
  bfloat16: { safetensors: 'BF16', onnx: 16, bytes: 2, array: undefined },
  float8e4m3fn: { safetensors: 'F8_E4M3', onnx: 17, bytes: 1, array: undefined },
  float8e5m2: { safetensors: 'F8_E5M2', onnx: 19, bytes: 1, array: undefined },
  float8e8m0: { safetensors: 'F8_E8M0', onnx: undefined, bytes: 1, array: undefined },
  float8e4m3fnuz: { safetensors: 'F8_E4M3FNUZ', onnx: undefined, bytes: 1, array: undefined },
  float8e5m2fnuz: { safetensors: 'F8_E5M2FNUZ', onnx: undefined, bytes: 1, array: undefined },
  float4e2m1: { safetensors: 'F4', onnx: undefined, bytes: 0.5, array: undefined },
  float6e2m3: { safetensors: 'F6_E2M3', onnx: undefined, bytes: 0.75, array: undefined },
  float6e3m2: { safetensors: 'F6_E3M2', onnx: undefined, bytes: 0.75, array: undefined },
  complex64: { safetensors: 'C64', onnx: undefined, bytes: 8, array: undefined },
} as const satisfies Record<string, ElementTypeRow>;

interface ElementTypeRow {
  readonly safetensors: string;
  readonly onnx: number | undefined;
  readonly bytes: number;
  readonly array: { readonly BYTES_PER_ELEMENT: number } | undefined;
}

export type ElementType = keyof typeof ELEMENT_TYPES;
/** Types that values of a graph can have. */
export type GraphType = {
  [T in ElementType]: (typeof ELEMENT_TYPES)[T]['onnx'] extends number ? T : never;
}[ElementType];
/** Types that a `Tensor` can have. */
export type ArrayType = {
  [T in ElementType]: (typeof ELEMENT_TYPES)[T]['array'] extends undefined ? never : T;
}[ElementType];

export type SafetensorsDType = (typeof ELEMENT_TYPES)[ElementType]['safetensors'];

/** Precisions a model can compute in, by the names that config files and callers write. */
export const DTYPES = ['float32', 'bfloat16', 'float16'] as const satisfies readonly ElementType[];
export type DType = (typeof DTYPES)[number];

/** torch's names of them, which config files may have, too. */
const TORCH_NAMES: ReadonlyMap<string, DType> = new Map<string, DType>([
  ...DTYPES.map((dtype) => [dtype, dtype] as const),
  ['half', 'float16'],
  ['float', 'float32'],
]);

/** What other programs call them. */
const NAMES_ELSEWHERE: ReadonlyMap<string, DType> = new Map<string, DType>([
  ...TORCH_NAMES,
  ['bf16', 'bfloat16'],
  ['f16', 'float16'],
  ['fp16', 'float16'],
  ['f32', 'float32'],
  ['fp32', 'float32'],
  ['full', 'float32'],
]);

/** The precision that torch calls so, with `torch.` before it or without; undefined for what no model computes in. */
export function torchDtype(name: string): DType | undefined {
  return TORCH_NAMES.get(withoutTorch(name));
}

const withoutTorch = (name: string) => name.replace(/^torch\./, '');

/** As `didYouMean` for a precision, which may also be of another program. */
export function didYouMeanDType(word: unknown): string {
  const name = withoutTorch(String(word).toLowerCase());
  return didYouMean(NAMES_ELSEWHERE.get(name) ?? name, DTYPES);
}

/** What a config says about the precision of its weights. */
export interface DeclaredDtype {
  /** Undefined where it says nothing, or nothing that can be computed in. */
  readonly dtype: DType | undefined;
  /** Why it will not do, for those who go by it. */
  readonly fault?: string;
}

/** safetensors' names of the element types that weights to compute with may have. */
export type WeightDType = (typeof ELEMENT_TYPES)[DType]['safetensors'];

const TYPES = Object.keys(ELEMENT_TYPES) as ElementType[];
const BY_SAFETENSORS: ReadonlyMap<string, ElementType> = new Map(
  TYPES.map((type) => [ELEMENT_TYPES[type].safetensors, type]),
);
const BY_ONNX: ReadonlyMap<number, ElementType> = new Map(
  TYPES.flatMap((type) => {
    const { onnx } = ELEMENT_TYPES[type];
    return onnx === undefined ? [] : [[onnx, type]];
  }),
);

/** Every name that a safetensors header may give. */
export const SAFETENSORS_DTYPES: readonly string[] = [...BY_SAFETENSORS.keys()];

/** The element type of a name in a safetensors header; undefined for a name that the format does not have. */
export function elementType(safetensors: SafetensorsDType): ElementType;
export function elementType(safetensors: string): ElementType | undefined;
export function elementType(safetensors: string): ElementType | undefined {
  return BY_SAFETENSORS.get(safetensors);
}

export function isSafetensorsDType(name: string): name is SafetensorsDType {
  return BY_SAFETENSORS.has(name);
}

/** Bits of an element of a tensor in a safetensors file. */
export function storedBits(safetensors: SafetensorsDType): number {
  return 8 * ELEMENT_TYPES[elementType(safetensors)].bytes;
}

/** The type of an ONNX `TensorProto.DataType`, where a `Tensor` can have it. */
export function arrayType(onnx: number): ArrayType | undefined {
  const type = BY_ONNX.get(onnx);
  return type !== undefined && isArrayType(type) ? type : undefined;
}

/** Whether a `Tensor` can have a type. */
export function isArrayType(type: string): type is ArrayType {
  return Object.hasOwn(ELEMENT_TYPES, type) && ELEMENT_TYPES[type as ElementType].array !== undefined;
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
