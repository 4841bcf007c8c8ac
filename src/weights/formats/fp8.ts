import { z } from 'zod';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { Format } from './format.ts';
import { countOf, expectDtype, groupsOf, misfit, type StoredModule } from './module.ts';
import { parseSettings, placeOf } from './settings.ts';
import { afterDot } from './split.ts';

const schema = z.object({
  fmt: z.literal('e4m3').default('e4m3'),
  weight_block_size: z.tuple([z.int().positive(), z.int().positive()]).optional(),
});

const SCALE = '_scale_inv';
const activations = afterDot([]);

/**
 * FP8 as DeepSeek and Qwen publish it: `weight` F8_E4M3 [N, K] and `weight_scale_inv` [⌈N/128⌉, ⌈K/128⌉], by which codes are multiplied
 * despite its name (HF `FP8Linear`). Qwen3-VL's fused experts are the same with a stack of matrices: `gate_up_proj` [E, H, 2I] and
 * `gate_up_proj_scale_inv`. Without block size, or with a single scale, that is for all.
 */
export const fp8: Format = {
  title: 'fp8',
  methods: ['fp8'],
  open(settings) {
    const { weight_block_size: block } = parseSettings(schema, settings);
    const where = `${placeOf(settings, 'weight_block_size')} is ${block ? `[${block}]` : 'not given'}`;
    return {
      split(name, dtype) {
        if (name.endsWith(SCALE)) return { module: name.slice(0, -SCALE.length), part: SCALE };
        return dtype === 'F8_E4M3' ? { module: name, part: '' } : activations(name);
      },
      read: (module) => read(module, block, where),
    };
  },
};

function read(
  module: StoredModule,
  block: readonly [number, number] | undefined,
  where: string,
): QuantizedTensor | undefined {
  const codes = module.find('');
  if (!codes) return undefined;
  const scales = module.need(SCALE, codes);
  expectDtype(scales, ['BF16', 'F16', 'F32', 'F8_E8M0']);
  const [rows, columns] = codes.shape.slice(-2);
  if (rows === undefined || columns === undefined || codes.shape.length > 3)
    throw misfit(codes, 'should be a matrix, or a stack of them');
  const isShared = countOf(scales.shape) === 1;
  const group = block && !isShared ? block : ([rows, columns] as const);
  const stack = codes.shape.slice(0, -2);
  const grid = [...stack, groupsOf(rows, group[0]), groupsOf(columns, group[1])];
  if (countOf(scales.shape) !== countOf(grid))
    throw misfit(scales, `should be [${grid}] for a weight of [${codes.shape}]: ${where}`);
  return {
    name: module.name,
    shape: codes.shape,
    codes: { tensor: codes, type: 'float8_e4m3', bits: 8, order: 'rows' },
    scales: { tensor: scales, type: scales.dtype === 'F8_E8M0' ? 'exponent' : 'float', group },
  };
}
