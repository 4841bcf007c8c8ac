import { didYouMean, expected, InputError, show } from '../errors.ts';
import type { MatrixKind } from '../models/architecture.ts';
import { checkOptions, type OptionNames } from '../options.ts';
import type { RoundScheme } from '../runtime/types.ts';

/**
 * What weights are rounded to: `int8` with one scale a row (8 bits), `int4` with a scale for each group of columns (4.5 bits at 32), or
 * `int4-asymmetric`, with a zero point besides (4.63 bits).
 */
export type WeightFormat = 'int8' | 'int4' | 'int4-asymmetric';

/** What the matrices of a model are rounded to, by kind; those left out stay as they are. */
export interface QuantizationSpec {
  /** Routed and shared experts, and dense MLPs. */
  experts?: WeightFormat;
  attention?: WeightFormat;
  /** The output head; one that is tied to the embedding becomes a matrix of its own, and the embedding stays. */
  head?: WeightFormat;
  /** Columns that share a scale in 4 bits: 32 (default), 64 or 128. */
  groupSize?: number;
}

/** `int8` and `int4` stand for all matrices, the head in int8 in either case: it decides about every token. */
export type Quantization = WeightFormat | QuantizationSpec;

/** How each kind of matrix is rounded. */
export type QuantizationScheme = Readonly<Partial<Record<MatrixKind, RoundScheme>>>;

const FORMATS: readonly WeightFormat[] = ['int8', 'int4', 'int4-asymmetric'];
const KINDS: readonly MatrixKind[] = ['experts', 'attention', 'head'];
const GROUP_SIZES = [32, 64, 128];
const DEFAULT_GROUP = 32;
const NAMES: OptionNames<QuantizationSpec> = { experts: true, attention: true, head: true, groupSize: true };

/**
 * @param where names the option in messages, such as `quantization`
 * @throws InputError
 */
export function parseScheme(given: Quantization, where = 'quantization'): QuantizationScheme {
  if (typeof given === 'string') {
    const format = checkFormat(given, where);
    return parseScheme({ experts: format, attention: format, head: 'int8' }, where);
  }
  if (typeof given !== 'object' || given === null)
    throw new InputError(
      expected(where, given, `${FORMATS.join(', ')}, or an object such as { experts: 'int4' }`),
    );
  const spec = checkOptions(given, Object.keys(NAMES), where);
  const { groupSize = DEFAULT_GROUP } = spec;
  if (!GROUP_SIZES.includes(groupSize))
    throw new InputError(expected(`${where}.groupSize`, groupSize, GROUP_SIZES.join(', ')));
  const entries = KINDS.flatMap((kind) => {
    const format = spec[kind];
    return format === undefined
      ? []
      : [[kind, roundScheme(checkFormat(format, `${where}.${kind}`), groupSize)] as const];
  });
  if (entries.length === 0)
    throw new InputError(`${where} names nothing to round; give ${KINDS.join(', ')} or several of them`);
  if (spec.groupSize !== undefined && entries.every(([, { bits }]) => bits === 8))
    throw new InputError(
      `${where}.groupSize is ${show(groupSize)}, but int8 has one scale a row; leave it out`,
    );
  return Object.fromEntries(entries);
}

/**
 * The text form: `int4`, or `experts=int4,attention=int8,head=int8,group-size=64`.
 * @throws InputError
 */
export function parseQuantization(text: string): Quantization {
  if (!text.includes('=')) return checkFormat(text.trim(), 'quantization');
  const spec = new Map<string, string | number>();
  for (const pair of text.split(',')) {
    const [key = '', value, ...rest] = pair.split('=').map((part) => part.trim());
    if (value === undefined || rest.length > 0)
      throw new InputError(`quantization: ${show(pair)} is not of the form key=value`);
    const name = key === 'group-size' ? 'groupSize' : key;
    if (spec.has(name)) throw new InputError(`quantization: ${show(key)} occurs twice`);
    spec.set(name, name === 'groupSize' ? Number(value) : value);
  }
  const given = Object.fromEntries(spec) as QuantizationSpec;
  parseScheme(given);
  return given;
}

function checkFormat(format: unknown, where: string): WeightFormat {
  if (FORMATS.includes(format as WeightFormat)) return format as WeightFormat;
  throw new InputError(expected(where, format, FORMATS.join(', ')) + didYouMean(format, FORMATS));
}

function roundScheme(format: WeightFormat, group: number): RoundScheme {
  return format === 'int8' ? { bits: 8 } : { bits: 4, group, zeroPoints: format === 'int4-asymmetric' };
}

/** In words, such as `experts int4 in groups of 32, head int8`. */
export function describeScheme(scheme: QuantizationScheme): string {
  return KINDS.flatMap((kind) => {
    const own = scheme[kind];
    return own ? [`${kind} ${describeRounding(own)}`] : [];
  }).join(', ');
}

function describeRounding(scheme: RoundScheme): string {
  if (scheme.bits === 8) return 'int8';
  return `int4${scheme.zeroPoints ? '-asymmetric' : ''} in groups of ${scheme.group}`;
}
