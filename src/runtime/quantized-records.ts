/** Quantized tensors as records of numbers, for the addon. */
import type { TensorInfo } from '../safetensors/types.ts';
import type { CodeOrder, CodeType, QuantizedTensor, QuantizedZeros } from '../weights/quantized-tensor.ts';

/** Numbers by which the addon knows them; see kernels/common/quantized.h. */
const CODE_TYPES: Readonly<Record<CodeType, number>> = {
  uint: 0,
  int: 1,
  float8_e4m3: 2,
  float4_e2m1: 3,
  table: 4,
};
const CODE_ORDERS: Readonly<Record<CodeOrder, number>> = {
  rows: 0,
  rows_high_first: 1,
  columns: 2,
  awq: 3,
};
const SCALE_KINDS = { float: 0, exponent: 1, table: 2 } as const;
const ZERO_ORDERS: Readonly<Record<QuantizedZeros['order'], number>> = {
  columns: 0,
  awq: 1,
  rows: 2,
};

const NO_PART = -1;
const MOST_DIMS = 3;

/**
 * What the addon reads of a tensor, number by number.
 * @param place gives a part its place among the store's tensors
 */
export function quantizedRecord(tensor: QuantizedTensor, place: (part: TensorInfo) => number): number[] {
  const { shape, codes, scales, zero = 0, biases, columnGroups } = tensor;
  const part = (info: TensorInfo | undefined) => (info ? place(info) : NO_PART);
  const asPart = (factor: number | TensorInfo | undefined) =>
    part(typeof factor === 'number' ? undefined : factor);
  const asNumber = (factor: number | TensorInfo | undefined) => (typeof factor === 'number' ? factor : 1);
  const zeros = typeof zero === 'number' ? undefined : zero;
  const [groupRows, groupColumns] = typeof scales.group === 'number' ? [0, scales.group] : scales.group;
  return [
    part(codes.tensor),
    CODE_TYPES[codes.type],
    codes.bits,
    CODE_ORDERS[codes.order],
    part(codes.table),
    part(scales.tensor),
    SCALE_KINDS[scales.type],
    groupRows,
    groupColumns,
    scales.transposed ? 1 : 0,
    asPart(scales.multiplier),
    asPart(scales.divisor),
    part(scales.table?.values),
    part(scales.table?.scales),
    scales.table?.groupSize ?? 1,
    part(zeros?.tensor),
    zeros ? ZERO_ORDERS[zeros.order] : 0,
    zeros?.lessOne ? 1 : 0,
    typeof zero === 'number' ? zero : 0,
    part(biases),
    part(columnGroups),
    asNumber(scales.multiplier),
    asNumber(scales.divisor),
    scales.table?.offset ?? 0,
    shape.length,
    ...Array.from({ length: MOST_DIMS }, (_, i) => shape[i] ?? 0),
  ];
}
