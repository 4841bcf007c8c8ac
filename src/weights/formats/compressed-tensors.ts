import { z } from 'zod';
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { Format, QuantizationSettings } from './format.ts';
import { expectCount, expectDtype, matrixOf, misfit, type StoredModule } from './module.ts';
import { Patterns } from './patterns.ts';
import { type GridHint, globalScale, gridOf, readBytes, readMxfp4, readNvfp4 } from './scaled.ts';
import { parseSettings, placeOf, within } from './settings.ts';
import { afterDot } from './split.ts';

const FORMATS = [
  ...['pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized'],
  ...['nvfp4-pack-quantized', 'mxfp4-pack-quantized', 'mixed-precision', 'dense'],
] as const;

const weights = z.object({
  num_bits: z.int().positive().optional(),
  symmetric: z.boolean().default(true),
  group_size: z.int().optional(),
  block_structure: z.union([z.array(z.int().positive()), z.string()]).optional(),
  actorder: z.union([z.string(), z.boolean()]).optional(),
});
const group = z.object({
  targets: z.array(z.string()).default([]),
  weights: weights.optional(),
  format: z.enum(FORMATS).optional(),
});
const schema = z.object({
  format: z.enum(FORMATS).optional(),
  config_groups: z.record(z.string(), group).default({}),
  sparsity_config: z.object({ format: z.literal('dense').default('dense') }).default({ format: 'dense' }),
  transform_config: z
    .object({
      config_groups: z
        .record(z.string(), z.unknown())
        .refine((groups) => Object.keys(groups).length === 0, {
          error: 'expected none: weights that are rotated before they are quantized cannot be read',
        })
        .default({}),
    })
    .default({ config_groups: {} }),
});
type Weights = z.output<typeof weights>;

const parts = [
  ...['weight', 'weight_packed', 'weight_scale', 'weight_zero_point', 'weight_shape', 'weight_g_idx'],
  'weight_global_scale',
];

/**
 * compressed-tensors, as llm-compressor writes it: `pack-quantized` (4 or 8 bits in 32-bit words), `int-quantized`, `float-quantized`,
 * `nvfp4-pack-quantized` and `mxfp4-pack-quantized`; a checkpoint may mix them. Which one a module has, its tensors say.
 */
export const compressedTensors: Format = {
  title: 'compressed-tensors',
  methods: ['compressed-tensors', 'sparseml'],
  open(settings) {
    const { config_groups: groups } = parseSettings(schema, settings);
    const patterns = new Patterns(placeOf(settings, 'config_groups'));
    const entries = Object.entries(groups);
    const isMeant = (target: string, module: string) =>
      target.startsWith('re:') ? patterns.matches(target.slice(3), module) : target === module;
    return {
      split: afterDot(parts),
      values: ['.weight_shape'],
      read(module) {
        const name = module.storedName;
        const named = entries.find(([, { targets }]) => targets.some((target) => isMeant(target, name)));
        // Other targets are classes of modules, of which only linear ones are quantized.
        const [key, found] = named ?? entries.find(([, { targets }]) => targets.includes('Linear')) ?? [];
        const own = key === undefined ? settings : within(settings, `config_groups.${key}.weights`, {});
        return read(module, found?.weights ?? { symmetric: true }, own);
      },
    };
  },
};

function read(
  module: StoredModule,
  weights: Weights,
  settings: QuantizationSettings,
): QuantizedTensor | undefined {
  const packed = module.find('.weight_packed');
  const name = `${module.name}.weight`;
  if (packed) {
    const scales = module.need('.weight_scale', packed);
    if (packed.dtype === 'I32') return readWords(module, packed, scales, weights, settings);
    const global = module.find('.weight_global_scale');
    if (global) return readNvfp4(name, packed, scales, { divisor: globalScale(global) });
    if (scales.dtype === 'F8_E4M3') module.need('.weight_global_scale', packed);
    return readMxfp4(name, packed, scales);
  }
  const codes = module.find('.weight');
  if (!codes || (codes.dtype !== 'I8' && codes.dtype !== 'F8_E4M3')) return undefined;
  const zeros = module.find('.weight_zero_point');
  if (zeros && !weights.symmetric)
    throw misfit(
      zeros,
      'belongs to codes of a byte; with zero points only pack-quantized weights can be read',
    );
  return readBytes(module, codes, hintOf(weights, settings));
}

function hintOf(
  { group_size: size, block_structure: block }: Weights,
  settings: QuantizationSettings,
): GridHint {
  const sizes = typeof block === 'string' ? block.match(/\d+/g)?.map(Number) : block;
  const [rows, columns] = sizes ?? [];
  return {
    groupSize: size === undefined || size <= 0 ? undefined : size,
    block: rows === undefined || columns === undefined ? undefined : [rows, columns],
    settings,
  };
}

/** `pack-quantized`: codes and zero points are stored with 2^(bits − 1) added. */
function readWords(
  module: StoredModule,
  codes: TensorInfo,
  scales: TensorInfo,
  weights: Weights,
  settings: QuantizationSettings,
): QuantizedTensor {
  expectDtype(scales, ['BF16', 'F16', 'F32']);
  const [rows, words] = matrixOf(codes);
  const [columns, bits] = widthOf(module, codes, words, weights.num_bits, settings);
  const size = gridOf(scales, rows, columns, hintOf(weights, settings));
  const zeros = weights.symmetric ? undefined : module.need('.weight_zero_point', codes);
  if (zeros) {
    expectDtype(zeros, ['I32']);
    const groups = scales.shape.reduce((a, b) => a * b, 1) / rows;
    expectCount(zeros, [Math.ceil((rows * bits) / 32), groups], 'a zero point for each scale');
  }
  const order =
    weights.actorder === 'group' || weights.actorder === true ? module.find('.weight_g_idx') : undefined;
  if (order) {
    expectDtype(order, ['I32']);
    expectCount(order, [columns], 'the group of each column');
  }
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: 'uint', bits, order: 'rows' },
    scales: { tensor: scales, type: 'float', group: size },
    zero: zeros ? { tensor: zeros, order: 'rows' } : 2 ** (bits - 1),
    ...(order && { columnGroups: order }),
  };
}

const WIDTHS = [4, 8];

/** Columns and bits: `weight_shape` says how many codes the words of a row hold. */
function widthOf(
  module: StoredModule,
  codes: TensorInfo,
  words: number,
  said: number | undefined,
  settings: QuantizationSettings,
): [columns: number, bits: number] {
  const shape = module.need('.weight_shape', codes);
  expectDtype(shape, ['I64']);
  expectCount(shape, [2], 'rows and columns of the weight');
  const columns = Number(module.bytes('.weight_shape').readBigInt64LE(8));
  const bits = WIDTHS.find((width) => Math.ceil((columns * width) / 32) === words);
  if (bits === undefined)
    throw misfit(
      codes,
      `does not hold ${columns} columns, as ${shape.name} says, of ${WIDTHS.join(' or ')} bits`,
    );
  if (said !== undefined && said !== bits)
    throw misfit(
      codes,
      `holds ${columns} columns of ${bits} bits, but ${placeOf(settings, 'num_bits')} is ${said}`,
    );
  return [columns, bits];
}
