/** Weights whose codes need no unpacking but halves of bytes: `weight` beside `weight_scale`, as several tools write them. */
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedScales, QuantizedTensor } from '../quantized-tensor.ts';
import type { QuantizationSettings } from './format.ts';
import {
  countOf,
  expectCount,
  expectDtype,
  groupsOf,
  matrixOf,
  misfit,
  type StoredModule,
} from './module.ts';
import { placeOf } from './settings.ts';
import { afterDot } from './split.ts';

/** What settings say about the grid of scales, where tensors leave it open. */
export interface GridHint {
  /** Columns of a group. */
  readonly groupSize?: number | undefined;
  /** Rows and columns of a block. */
  readonly block?: readonly [number, number] | undefined;
  /** Where these settings stand, for messages. */
  readonly settings: QuantizationSettings;
}

/** Parts of such modules. */
export const scaledParts = afterDot(['weight', 'weight_scale', 'weight_scale_2']);

const FLOATS = ['F32', 'F16', 'BF16'] as const;

/**
 * One code a byte, F8_E4M3 or I8: a scale for the whole, for each row, for groups of columns or for blocks. U8 or F8_E8M0 scales are
 * exponents (MXFP8).
 */
export function readBytes(module: StoredModule, codes: TensorInfo, hint: GridHint): QuantizedTensor {
  const [rows, columns] = matrixOf(codes);
  const scales = module.need('.weight_scale', codes);
  const isExponent = scales.dtype === 'U8' || scales.dtype === 'F8_E8M0';
  if (!isExponent) expectDtype(scales, FLOATS);
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: codes.dtype === 'I8' ? 'int' : 'float8_e4m3', bits: 8, order: 'rows' },
    scales: {
      tensor: scales,
      type: isExponent ? 'exponent' : 'float',
      group: gridOf(scales, rows, columns, hint),
    },
  };
}

/** Rows and columns that share a scale. @throws CheckpointError where shapes and settings do not agree */
export function gridOf(
  scales: TensorInfo,
  rows: number,
  columns: number,
  { groupSize, block, settings }: GridHint,
): readonly [number, number] {
  const count = countOf(scales.shape);
  if (count === 1) return [rows, columns];
  if (block) {
    const grid = [groupsOf(rows, block[0]), groupsOf(columns, block[1])];
    expectCount(
      scales,
      grid,
      `${placeOf(settings, 'block_structure')} is [${block}], for a weight of [${[rows, columns]}]`,
    );
    return block;
  }
  if (count === rows) return [1, columns];
  const size = groupSize ?? Math.ceil(columns / (count / rows));
  const grid = [rows, groupsOf(columns, size)];
  expectCount(
    scales,
    grid,
    `${placeOf(settings, 'group_size')} is ${size}, for a weight of [${[rows, columns]}]`,
  );
  return [1, size];
}

/** Columns of a scale in MXFP4 and MXFP8, by OCP's specification of microscaling formats. */
const MX_GROUP = 32;
const NVFP4_GROUP = 16;

/** Two e2m1 codes a byte, the first in the low bits, with a U8 exponent for 32 columns. */
export function readMxfp4(name: string, codes: TensorInfo, scales: TensorInfo): QuantizedTensor {
  const shape = fp4Shape(codes);
  expectDtype(scales, ['U8', 'F8_E8M0']);
  expectCount(scales, [shape[0], groupsOf(shape[1], MX_GROUP)], `an exponent for ${MX_GROUP} columns`);
  return {
    name,
    shape,
    codes: { tensor: codes, type: 'float4_e2m1', bits: 4, order: 'rows' },
    scales: { tensor: scales, type: 'exponent', group: [1, MX_GROUP] },
  };
}

/** The same with an F8_E4M3 scale for 16 columns, and one F32 number by which all of them are multiplied or divided. */
export function readNvfp4(
  name: string,
  codes: TensorInfo,
  scales: TensorInfo,
  global: Pick<QuantizedScales, 'multiplier' | 'divisor'>,
): QuantizedTensor {
  const shape = fp4Shape(codes);
  expectDtype(scales, ['F8_E4M3']);
  expectCount(scales, [shape[0], groupsOf(shape[1], NVFP4_GROUP)], `a scale for ${NVFP4_GROUP} columns`);
  return {
    name,
    shape,
    codes: { tensor: codes, type: 'float4_e2m1', bits: 4, order: 'rows' },
    scales: { tensor: scales, type: 'float', group: [1, NVFP4_GROUP], ...global },
  };
}

/** One F32 number for all scales. */
export function globalScale(tensor: TensorInfo): TensorInfo {
  expectDtype(tensor, ['F32']);
  expectCount(tensor, [1], 'one number for all scales');
  return tensor;
}

function fp4Shape(codes: TensorInfo): [number, number] {
  if (codes.dtype !== 'U8') throw misfit(codes, 'should be U8, two codes a byte');
  const [rows, bytes] = matrixOf(codes);
  return [rows, 2 * bytes];
}

/** A module of `weight` and `weight_scale`, by their element types; undefined for one that is stored plain. */
export function readScaled(module: StoredModule, hint: GridHint): QuantizedTensor | undefined {
  const codes = module.find('.weight');
  if (codes?.dtype === 'I8' || codes?.dtype === 'F8_E4M3') return readBytes(module, codes, hint);
  if (codes?.dtype !== 'U8') return undefined;
  const name = `${module.name}.weight`;
  const scales = module.need('.weight_scale', codes);
  if (scales.dtype !== 'F8_E4M3') return readMxfp4(name, codes, scales);
  return readNvfp4(name, codes, scales, { multiplier: globalScale(module.need('.weight_scale_2', codes)) });
}
