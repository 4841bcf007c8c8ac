import { z } from 'zod';
import { ConfigError, issuesText } from '../../errors.ts';
import { parseJsonFile } from '../../json.ts';
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedScales, QuantizedTensor } from '../quantized-tensor.ts';
import type { Format } from './format.ts';
import {
  countOf,
  expectCount,
  expectDtype,
  groupsOf,
  matrixOf,
  misfit,
  type StoredModule,
} from './module.ts';
import { afterDot } from './split.ts';

const STATES = ['.weight.quant_state.bitsandbytes__nf4', '.weight.quant_state.bitsandbytes__fp4'] as const;
const NESTED = ['nested_absmax', 'nested_quant_map'];
const parts = [
  ...['weight', 'SCB', 'weight_format', 'weight.absmax', 'weight.quant_map'],
  ...NESTED.map((part) => `weight.${part}`),
  ...STATES.map((part) => part.slice(1)),
];

const state = z.object({
  blocksize: z.int().positive(),
  shape: z.tuple([z.int().positive(), z.int().positive()]),
  nested_blocksize: z.int().positive().optional(),
  nested_offset: z.number().optional(),
});
type State = z.output<typeof state>;

/** Divisor of int8's row maxima. */
const INT8_TOP = 127;
const TABLE_SIZE = 16;
const NESTED_TABLE_SIZE = 256;

/**
 * bitsandbytes: 4 bits (nf4, fp4) that are looked up in `quant_map` and multiplied by the maximum of their block, of which `absmax` is
 * itself in 8 bits under double quantization; or int8 by rows, `weight` I8 and `SCB` F32 [N].
 */
export const bitsandbytes: Format = {
  title: 'bitsandbytes',
  methods: ['bitsandbytes'],
  open() {
    return {
      split: afterDot(parts),
      values: [...STATES, '.weight_format'],
      read(module) {
        const codes = module.find('.weight');
        if (codes?.dtype === 'U8') return readTable(module, codes);
        return codes?.dtype === 'I8' ? readInt8(module, codes) : undefined;
      },
    };
  },
};

function readInt8(module: StoredModule, codes: TensorInfo): QuantizedTensor {
  const [rows, columns] = matrixOf(codes);
  const maxima = module.need('.SCB', codes);
  expectDtype(maxima, ['F32']);
  expectCount(maxima, [rows], 'the maximum of each row');
  const format = module.find('.weight_format');
  if (format && module.bytes('.weight_format').some((byte) => byte !== 0))
    throw misfit(format, 'is of a layout for one kind of GPU; only the format "row", 0, can be read');
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: 'int', bits: 8, order: 'rows' },
    scales: { tensor: maxima, type: 'float', group: [1, columns], divisor: INT8_TOP },
  };
}

function readTable(module: StoredModule, codes: TensorInfo): QuantizedTensor {
  const part = STATES.find((name) => module.find(name)) ?? STATES[0];
  const said = readState(module, module.need(part, codes), part);
  const { shape, blocksize } = said;
  const elements = countOf(shape);
  if (countOf(codes.shape) !== Math.ceil(elements / 2))
    throw misfit(codes, `should hold a weight of [${shape}] in 4 bits, as ${module.storedName}${part} says`);
  const table = module.need('.weight.quant_map', codes);
  expectDtype(table, ['F32']);
  expectCount(table, [TABLE_SIZE], 'the value of each code');
  const maxima = module.need('.weight.absmax', codes);
  expectCount(maxima, [groupsOf(elements, blocksize)], `the maximum of each block of ${blocksize}`);
  return {
    name: `${module.name}.weight`,
    shape,
    codes: { tensor: codes, type: 'table', bits: 4, order: 'rows_high_first', table },
    scales: maxima.dtype === 'U8' ? nestedScales(module, maxima, said) : floatScales(maxima, blocksize),
  };
}

function floatScales(maxima: TensorInfo, blocksize: number): QuantizedScales {
  expectDtype(maxima, ['F32']);
  return { tensor: maxima, type: 'float', group: blocksize };
}

function nestedScales(module: StoredModule, maxima: TensorInfo, said: State): QuantizedScales {
  const values = module.need('.weight.nested_quant_map', maxima);
  const scales = module.need('.weight.nested_absmax', maxima);
  for (const tensor of [values, scales]) expectDtype(tensor, ['F32']);
  const { nested_blocksize: groupSize = NESTED_TABLE_SIZE, nested_offset: offset = 0, blocksize } = said;
  expectCount(values, [NESTED_TABLE_SIZE], 'the value of each byte');
  expectCount(
    scales,
    [groupsOf(countOf(maxima.shape), groupSize)],
    `the maximum of each block of ${groupSize}`,
  );
  return { tensor: maxima, type: 'table', group: blocksize, table: { values, scales, groupSize, offset } };
}

/** The JSON text that bitsandbytes leaves in a tensor of bytes. */
function readState(module: StoredModule, tensor: TensorInfo, part: string): State {
  const place = `${tensor.file}: ${tensor.name}`;
  const json = parseJsonFile(module.bytes(part).toString('utf8'), place);
  const result = state.safeParse(json);
  if (result.success) return result.data;
  throw new ConfigError(`${place}: ${issuesText(result.error.issues, json)}`);
}
