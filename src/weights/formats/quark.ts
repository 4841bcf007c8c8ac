import { z } from 'zod';
import type { Format } from './format.ts';
import { readScaled, scaledParts } from './scaled.ts';
import { parseSettings } from './settings.ts';

const schema = z.object({
  global_quant_config: z
    .object({
      weight: z
        .object({
          dtype: z.enum(['fp4', 'fp8_e4m3', 'int8']),
          qscheme: z.enum(['per_group', 'per_channel', 'per_tensor']).optional(),
          scale_format: z.enum(['e8m0', 'float32', 'float']).optional(),
        })
        .optional(),
    })
    .optional(),
  export: z.object({ pack_method: z.enum(['reorder', 'order']).optional() }).optional(),
});

/** AMD's Quark: `weight` U8 and exponents in U8 `weight_scale` for 32 columns (MXFP4), or bytes with one scale or one a row. */
export const quark: Format = {
  title: 'quark',
  methods: ['quark'],
  open(settings) {
    parseSettings(schema, settings);
    return { split: scaledParts, read: (module) => readScaled(module, { settings }) };
  },
};
