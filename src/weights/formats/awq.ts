import { z } from 'zod';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { Format, QuantizationSettings } from './format.ts';
import { expectCount, expectDtype, groupsOf, matrixOf, misfit, type StoredModule } from './module.ts';
import { bitsOf, groupSize, parseSettings, placeOf } from './settings.ts';
import { afterDot } from './split.ts';

const schema = z.preprocess(
  // Names in quant_config.json, as AutoAWQ's first versions left it.
  (json) => {
    const { w_bit, q_group_size, ...rest } = json as Record<string, unknown>;
    return {
      ...(w_bit === undefined ? {} : { bits: w_bit }),
      ...(q_group_size === undefined ? {} : { group_size: q_group_size }),
      ...rest,
    };
  },
  z.object({
    bits: bitsOf([4]).default(4),
    group_size: groupSize.default(128),
    version: z
      .string()
      .default('gemm')
      .refine((version) => version.toLowerCase() === 'gemm', {
        error: 'expected "gemm", the layout that can be read',
      }),
  }),
);

const NIBBLES = 8;

/**
 * AWQ's layout "gemm" (AutoAWQ): `qweight` I32 [K, N/8], `qzeros` I32 [G, N/8], `scales` [G, N]; the eight rows of a word are shuffled.
 */
export const awq: Format = {
  title: 'awq',
  methods: ['awq'],
  open(settings) {
    const { group_size } = parseSettings(schema, settings);
    return {
      split: afterDot(['qweight', 'qzeros', 'scales']),
      read: (module) => readAwq(module, group_size, settings),
    };
  },
};

/** A module in AWQ's layout; undefined where it has none. @param size columns of a group; -1: a whole row */
export function readAwq(
  module: StoredModule,
  size: number,
  settings: QuantizationSettings,
): QuantizedTensor | undefined {
  const codes = module.find('.qweight');
  if (!codes) return undefined;
  expectDtype(codes, ['I32']);
  const [columns, words] = matrixOf(codes);
  const rows = words * NIBBLES;
  const scales = module.need('.scales', codes);
  expectDtype(scales, ['F16', 'BF16', 'F32']);
  const zeros = module.need('.qzeros', codes);
  expectDtype(zeros, ['I32']);
  const [groups] = matrixOf(scales);
  const group = size === -1 ? columns : size;
  if (groups !== groupsOf(columns, group))
    throw misfit(
      scales,
      `holds ${groups} groups for ${columns} columns, but ${placeOf(settings, 'group_size')} is ${size}`,
    );
  expectCount(scales, [groups, rows], `a scale for each of the ${rows} rows of ${codes.name}`);
  expectCount(zeros, [groups, words], 'a zero point of 4 bits for each scale');
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: 'uint', bits: 4, order: 'awq' },
    scales: { tensor: scales, type: 'float', group: [1, group], transposed: true },
    zero: { tensor: zeros, order: 'awq' },
  };
}
