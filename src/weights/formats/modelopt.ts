import { z } from 'zod';
import type { Format } from './format.ts';
import { readScaled, scaledParts } from './scaled.ts';
import { parseSettings } from './settings.ts';

const ALGORITHMS = [
  ...['FP8', 'FP8_PER_CHANNEL_PER_TOKEN', 'FP8_PB_WO', 'NVFP4', 'W4A16_NVFP4', 'MXFP4', 'MXFP8'],
  'MIXED_PRECISION',
] as const;
const schema = z.object({
  quant_algo: z.enum(ALGORITHMS).optional(),
  group_size: z.int().positive().optional(),
});

/** Rows and columns of FP8_PB_WO's blocks. */
const BLOCK = [128, 128] as const;

/**
 * NVIDIA's ModelOpt: `weight` U8 with F8_E4M3 `weight_scale` and F32 `weight_scale_2`, which multiplies (NVFP4), or `weight` F8_E4M3
 * with one scale, one a row, or blocks.
 */
export const modelopt: Format = {
  title: 'modelopt',
  methods: ['modelopt', 'modelopt_fp4', 'modelopt_mixed'],
  open(settings) {
    const { quant_algo: algorithm } = parseSettings(schema, settings);
    const block = algorithm === 'FP8_PB_WO' ? BLOCK : undefined;
    return { split: scaledParts, read: (module) => readScaled(module, { block, settings }) };
  },
};
