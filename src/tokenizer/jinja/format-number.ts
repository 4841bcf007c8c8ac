import { TemplateFault } from './budget.ts';
import { reprFloat } from './text.ts';

/** How a number is written, apart from its width. */
export interface NumberFormat {
  readonly type: string;
  readonly precision: number | undefined;
  /** `#`: with the prefix of the base */
  readonly alternate: boolean;
  /** Between thousands. */
  readonly grouping: string;
}

// A double has at most 1,075 decimals that are not zero.
const MOST_DIGITS = 1_100;
const BASES: Readonly<Record<string, readonly [number, string]>> = {
  b: [2, '0b'],
  o: [8, '0o'],
  x: [16, '0x'],
  X: [16, '0X'],
};

/** The number without its sign, as `%` and `format` of Python write it. */
export function formatMagnitude(value: bigint | number, format: NumberFormat): string {
  const { type, grouping } = format;
  const precision = format.precision ?? 6;
  if (precision > MOST_DIGITS) throw new TemplateFault(`precision ${precision} is too large`);
  if (typeof value === 'bigint' && (type === '' || type === 'd' || type === 'n')) {
    return group((value < 0n ? -value : value).toString(), grouping);
  }
  const base = BASES[type];
  if (base !== undefined) {
    if (typeof value !== 'bigint')
      throw new TemplateFault(`%${type} format: an integer is required, not float`);
    const digits = (value < 0n ? -value : value).toString(base[0]);
    const prefix = format.alternate ? base[1] : '';
    return prefix + (type === 'X' ? digits.toUpperCase() : digits);
  }
  const number = Math.abs(Number(value));
  if (!Number.isFinite(number))
    return /[A-Z]/.test(type) ? reprFloat(number).toUpperCase() : reprFloat(number);
  switch (type) {
    case 'f':
    case 'F':
      return group(toFixed(number, precision), grouping);
    case '%':
      return `${group(toFixed(number * 100, precision), grouping)}%`;
    case 'e':
    case 'E':
      return upperIf(type === 'E', toExponent(number, precision));
    case 'g':
    case 'G':
      return upperIf(type === 'G', toGeneral(number, precision, format.alternate));
    case '':
      if (format.precision === undefined) return group(reprFloat(number), grouping);
      return group(toGeneral(number, precision, false), grouping);
    default:
      throw new TemplateFault(`Unknown format code '${type}' for object of type 'float'`);
  }
}

/** A finite number of 0 or more with so many decimals, rounded from its exact value, half to even. */
function toFixed(value: number, decimals: number): string {
  const scaled = roundScaled(value, decimals)
    .toString()
    .padStart(decimals + 1, '0');
  return decimals === 0 ? scaled : `${scaled.slice(0, -decimals)}.${scaled.slice(-decimals)}`;
}

/** value × 10^decimals as a whole number, half to even. `decimals` may be negative. */
export function roundScaled(value: number, decimals: number): bigint {
  const [mantissa, exponent] = binaryParts(value);
  let numerator = mantissa;
  let denominator = 1n;
  if (exponent >= 0) numerator <<= BigInt(exponent);
  else denominator <<= BigInt(-exponent);
  if (decimals >= 0) numerator *= 10n ** BigInt(decimals);
  else denominator *= 10n ** BigInt(-decimals);
  const [quotient, twice] = [numerator / denominator, (numerator % denominator) * 2n];
  const up = twice > denominator || (twice === denominator && quotient % 2n === 1n);
  return up ? quotient + 1n : quotient;
}

/** value = mantissa × 2^exponent */
function binaryParts(value: number): [bigint, number] {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  const word = bits.getBigUint64(0) & 0x7fff_ffff_ffff_ffffn;
  const exponent = Number(word >> 52n);
  const fraction = word & 0xf_ffff_ffff_ffffn;
  return exponent === 0 ? [fraction, -1074] : [fraction | (1n << 52n), exponent - 1075];
}

function toExponent(value: number, precision: number): string {
  if (value === 0) return `${toFixed(0, precision)}e+00`;
  let exponent = Math.floor(Math.log10(value));
  let digits = roundScaled(value, precision - exponent).toString();
  // The logarithm may be off by one, and rounding may add a digit.
  while (digits.length !== precision + 1) {
    exponent += digits.length > precision + 1 ? 1 : -1;
    digits = roundScaled(value, precision - exponent).toString();
  }
  const fraction = precision > 0 ? `.${digits.slice(1)}` : '';
  return `${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

function toGeneral(value: number, precision: number, keepZeros: boolean): string {
  const digits = Math.max(precision, 1);
  const scientific = toExponent(value, digits - 1);
  const exponent = Number(scientific.split('e')[1]);
  const isPlain = exponent >= -4 && exponent < digits;
  const text = isPlain ? toFixed(value, digits - 1 - exponent) : scientific;
  if (keepZeros) return text;
  const [mantissa, tail] = text.split('e') as [string, string | undefined];
  const short = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
  return tail === undefined ? short : `${short}e${tail}`;
}

function group(text: string, separator: string): string {
  if (separator === '') return text;
  const [whole, fraction] = text.split('.') as [string, string | undefined];
  const grouped = whole.replace(/\B(?=(?:\d{3})+$)/g, separator);
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

function upperIf(condition: boolean, text: string): string {
  return condition ? text.toUpperCase() : text;
}
