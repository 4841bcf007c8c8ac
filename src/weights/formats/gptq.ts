import { z } from 'zod';
import { ConfigError, expected } from '../../errors.ts';
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { Format, QuantizationSettings, Settings } from './format.ts';
import { expectCount, expectDtype, groupsOf, matrixOf, misfit, type StoredModule } from './module.ts';
import { Patterns } from './patterns.ts';
import { bitsOf, groupSize, parseSettings, placeOf, within } from './settings.ts';
import { afterDot } from './split.ts';

/** What may differ from module to module. */
const fields = z.object({
  bits: bitsOf([2, 4, 8]).default(4),
  group_size: groupSize.default(128),
  sym: z.boolean().default(true),
});
export const gptqFields = fields.shape;
type Fields = z.output<typeof fields>;

const schema = z.object({
  ...gptqFields,
  checkpoint_format: z.enum(['gptq', 'gptq_v2']).default('gptq'),
  pack_dtype: z.literal('int32').default('int32'),
  dynamic: z.record(z.string(), z.unknown()).default({}),
});

/** The settings of one module: those of all, and what is said of it alone. @param own with the place where that stands */
export function gptqOverride({ bits, group_size, sym }: Fields, own: QuantizationSettings): Fields {
  return parseSettings(fields, { ...own, json: { bits, group_size, sym, ...own.json } });
}

/** How a module is packed, as far as its tensors do not say; a `group_size` of -1 is a whole row. */
export interface GptqPacking extends Fields {
  /** Whether zero points are stored less 1, as GPTQ's first version does. */
  readonly lessOne: boolean;
  /** Where these settings stand, for messages. */
  readonly settings: QuantizationSettings;
}

export const gptqParts = afterDot(['qweight', 'qzeros', 'scales', 'g_idx']);

/**
 * GPTQ as AutoGPTQ and GPTQModel write it: `qweight` I32 [K·bits/32, N], `qzeros` I32 [G, N·bits/32], `scales` [G, N], `g_idx` I32 [K].
 * With `sym` the zero point is the middle, and `qzeros` is not looked at: published files disagree about what it holds.
 */
export const gptq: Format = {
  title: 'gptq',
  methods: ['gptq'],
  open(settings, warn) {
    const { dynamic, ...base } = parseSettings(schema, settings);
    const lessOne = base.checkpoint_format === 'gptq';
    const patterns = new Patterns(placeOf(settings, 'dynamic'));
    const rules = Object.entries(dynamic).map(([rule, given]) => readRule(rule, given, base, settings));
    if (!base.sym && lessOne) warn(AMBIGUOUS_ZEROS(settings));
    return {
      split: gptqParts,
      read(module) {
        const rule = rules.find(({ pattern }) => patterns.matches(pattern, module.storedName));
        return readGptq(module, { ...base, settings, ...rule?.own, lessOne });
      },
    };
  },
};

const AMBIGUOUS_ZEROS = (settings: QuantizationSettings) =>
  `${placeOf(settings, 'sym')} is false, in the format gptq: zero points are taken as stored less 1. Tools differ about a stored 15; should the ` +
  'text be nonsense, take a checkpoint in the format gptq_v2';

interface Rule {
  readonly pattern: string;
  /** Undefined for a pattern of modules that are not quantized. */
  readonly own: (Fields & Pick<GptqPacking, 'settings'>) | undefined;
}

/** An entry of `dynamic`: `-:pattern` leaves modules alone, `+:pattern` or a bare one changes settings. The first that matches counts. */
function readRule(rule: string, given: unknown, base: Fields, settings: QuantizationSettings): Rule {
  if (rule.startsWith('-:')) return { pattern: rule.slice(2), own: undefined };
  const place = `dynamic.${rule}`;
  if (typeof given !== 'object' || given === null)
    throw new ConfigError(expected(placeOf(settings, place), given, 'an object of settings'));
  const own = within(settings, place, given as Settings);
  return { pattern: rule.replace(/^\+:/, ''), own: { ...gptqOverride(base, own), settings: own } };
}

/** A module in GPTQ's packing; undefined where it has none. */
export function readGptq(module: StoredModule, packing: GptqPacking): QuantizedTensor | undefined {
  const codes = module.find('.qweight');
  if (!codes) return undefined;
  const { group_size, sym, lessOne, settings } = packing;
  expectDtype(codes, ['I32']);
  const [words, rows] = matrixOf(codes);
  const scales = module.need('.scales', codes);
  expectDtype(scales, ['F16', 'BF16', 'F32']);
  const [groups] = matrixOf(scales);
  const zeros = sym ? module.find('.qzeros') : module.need('.qzeros', codes);
  const bits = checkBits(zeros, rows, packing);
  const columns = (words * 32) / bits;
  const order = module.find('.g_idx');
  if (order) {
    expectDtype(order, ['I32']);
    if (order.shape[0] !== columns)
      throw misfit(codes, `holds ${columns} columns of ${bits} bits, but ${order.name} is [${order.shape}]`);
  }
  const size = group_size === -1 ? columns : group_size;
  if (groups !== groupsOf(columns, size))
    throw misfit(
      scales,
      `holds ${groups} groups for ${columns} columns, but ${placeOf(settings, 'group_size')} is ${group_size}`,
    );
  expectCount(scales, [groups, rows], `a scale for each of the ${rows} rows of ${codes.name}`);
  if (zeros) expectCount(zeros, [groups, (rows * bits) / 32], `a zero point for each scale, of ${bits} bits`);
  return {
    name: `${module.name}.weight`,
    shape: [rows, columns],
    codes: { tensor: codes, type: 'uint', bits, order: 'columns' },
    scales: { tensor: scales, type: 'float', group: [1, size], transposed: true },
    zero: sym || !zeros ? 2 ** (bits - 1) : { tensor: zeros, order: 'columns', lessOne },
    ...(order && { columnGroups: order }),
  };
}

/** The bits, of which zero points are as many as of codes: what the settings say must agree. */
function checkBits(zeros: TensorInfo | undefined, rows: number, { bits, settings }: GptqPacking): number {
  if (!zeros) return bits;
  expectDtype(zeros, ['I32']);
  const [, words] = matrixOf(zeros);
  const stored = (words * 32) / rows;
  if (stored !== bits && [2, 3, 4, 8].includes(stored))
    throw misfit(zeros, `holds zero points of ${stored} bits, but ${placeOf(settings, 'bits')} is ${bits}`);
  return bits;
}
