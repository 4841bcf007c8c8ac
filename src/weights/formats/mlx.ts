import { z } from 'zod';
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { Format, QuantizationSettings, Settings } from './format.ts';
import { expectCount, expectDtype, matrixOf, misfit, type StoredModule } from './module.ts';
import { bitsOf, parseSettings, placeOf, within } from './settings.ts';
import { afterDot } from './split.ts';

const MODES = {
  mxfp4: { type: 'float4_e2m1', bits: 4, group: 32 },
  nvfp4: { type: 'float4_e2m1', bits: 4, group: 16 },
  mxfp8: { type: 'float8_e4m3', bits: 8, group: 32 },
} as const;

const fields = {
  mode: z.enum(['affine', 'mxfp4', 'nvfp4', 'mxfp8']).default('affine'),
  bits: bitsOf([2, 3, 4, 5, 6, 8]).optional(),
  group_size: z.int().positive().optional(),
};
const schema = z.object(fields);
type Packing = z.output<typeof schema> & { readonly settings: QuantizationSettings };

/**
 * MLX: `weight` U32 [N, K·bits/32], a stream of bits, with `scales` and `biases` [N, K/group]: `code · scale + bias`. In the modes mxfp4,
 * nvfp4 and mxfp8 codes are floats, and scales bytes without biases. The settings name by its path each module that differs.
 */
export const mlx: Format = {
  title: 'mlx',
  methods: ['mlx'],
  open(settings) {
    const base = { ...parseSettings(schema, settings), settings };
    const packings = new Map<string, Packing>();
    const packingOf = (module: string) => {
      const known = packings.get(module);
      if (known) return known;
      const packing = ownPacking(settings, module) ?? base;
      packings.set(module, packing);
      return packing;
    };
    return {
      split: afterDot(['weight', 'scales', 'biases']),
      read(module) {
        const codes = module.find('.weight');
        if (codes?.dtype !== 'U32') return undefined;
        const packing = packingOf(module.storedName);
        return packing.mode === 'affine'
          ? readAffine(module, codes, packing)
          : readFloats(module, codes, packing);
      },
    };
  },
};

/** What the settings say of one module. */
function ownPacking(settings: QuantizationSettings, module: string): Packing | undefined {
  const json = Object.hasOwn(settings.json, module) ? settings.json[module] : undefined;
  if (typeof json !== 'object' || json === null) return undefined;
  const own = within(settings, module, json as Settings);
  return { ...parseSettings(schema, own), settings: own };
}

const DEFAULT_GROUP = 64;
const DEFAULT_BITS = 4;

function readAffine(module: StoredModule, codes: TensorInfo, packing: Packing): QuantizedTensor {
  const { bits = DEFAULT_BITS, group_size: group = DEFAULT_GROUP, settings } = packing;
  const [rows, words] = matrixOf(codes);
  const scales = module.need('.scales', codes);
  const biases = module.need('.biases', codes);
  for (const tensor of [scales, biases]) expectDtype(tensor, ['BF16', 'F16', 'F32']);
  const [, groups] = matrixOf(scales);
  const columns = groups * group;
  const stored = (words * 32) / columns;
  if (stored !== bits)
    throw misfit(
      codes,
      `holds ${stored} bits for each of ${columns} columns (${groups} groups of ${group}), but ${placeOf(settings, 'bits')} is ${bits}`,
    );
  for (const tensor of [scales, biases])
    expectCount(tensor, [rows, groups], `one for each group of ${codes.name}`);
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: 'uint', bits, order: 'rows' },
    scales: { tensor: scales, type: 'float', group: [1, group] },
    biases,
  };
}

function readFloats(
  module: StoredModule,
  codes: TensorInfo,
  { mode, bits, group_size, settings }: Packing,
): QuantizedTensor {
  const { type, bits: width, group } = MODES[mode as keyof typeof MODES];
  if ((bits ?? width) !== width || (group_size ?? group) !== group)
    throw misfit(
      codes,
      `cannot be read: ${placeOf(settings, 'mode')} is ${mode}, which is ${width} bits in groups of ${group}, and otherwise`,
    );
  const [rows, words] = matrixOf(codes);
  const columns = (words * 32) / width;
  const scales = module.need('.scales', codes);
  expectDtype(scales, ['U8']);
  expectCount(scales, [rows, columns / group], `a scale for ${group} columns`);
  const isExponent = mode !== 'nvfp4';
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type, bits: width, order: 'rows' },
    scales: {
      tensor: isExponent ? scales : { ...scales, dtype: 'F8_E4M3' },
      type: isExponent ? 'exponent' : 'float',
      group: [1, group],
    },
  };
}
