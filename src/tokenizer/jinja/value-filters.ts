import { getAttribute } from './access.ts';
import { flagOf, integerOf, type Signature, textOf } from './arguments.ts';
import { TemplateFault } from './budget.ts';
import { roundScaled } from './format-number.ts';
import { asNumber, refuseUndefined } from './operators.ts';
import { type JsonOptions, toJson } from './tojson.ts';
import { Callable, Dict, either, isTrue, Tuple, typeName, Undefined, type Value } from './values.ts';

type Filter = Signature<Value>;

/** Filters of any value: numbers, defaults, JSON. Source: Jinja 3.1 `jinja2/filters.py`. */
export const VALUE_FILTERS: Readonly<Record<string, Filter>> = {
  default: ['default_value? boolean?', orDefault],
  d: ['default_value? boolean?', orDefault],
  abs: [
    '',
    (value) => {
      const number = asNumber(value);
      refuseUndefined(value);
      if (number === undefined) throw new TemplateFault(`bad operand type for abs(): '${typeName(value)}'`);
      return typeof number === 'number' ? Math.abs(number) : number < 0n ? -number : number;
    },
  ],
  round: ['precision? method?', round],
  int: [
    'default? base?',
    (value, [otherwise = 0n, base]) =>
      either(either(parseInteger(value, integerOf(base, 'base', 10)), truncated(value)), otherwise),
  ],
  float: ['default?', (value, [otherwise = 0]) => either(parseFloatText(value), otherwise)],
  attr: [
    'name',
    (value, [name], runtime) => {
      const text = textOf(name, 'attribute name');
      const missing = new Undefined(`'${typeName(value)} object' has no attribute '${text}'`);
      const found = getAttribute(value, text, runtime);
      if (value instanceof Dict && !(found instanceof Callable)) return missing;
      return found;
    },
  ],
  tojson: [
    'ensure_ascii? indent? separators? sort_keys?',
    (value, [ascii, indent = null, separators = null, sortKeys], { budget }) => {
      const options: JsonOptions = {
        ensureAscii: flagOf(ascii),
        indent: indentOf(indent),
        separators: separatorsOf(separators, indent === null),
        sortKeys: flagOf(sortKeys),
      };
      budget.text(options.indent?.length ?? 0);
      return toJson(value, options, budget);
    },
  ],
};

function orDefault(value: Value, [otherwise = '', whereFalse]: readonly (Value | undefined)[]): Value {
  return value instanceof Undefined || (flagOf(whereFalse) && !isTrue(value)) ? otherwise : value;
}

function round(value: Value, [precision, method = 'common']: readonly (Value | undefined)[]): Value {
  const digits = integerOf(precision, 'precision');
  const number = asNumber(value);
  refuseUndefined(value);
  if (method !== 'common' && method !== 'ceil' && method !== 'floor') {
    throw new TemplateFault('method must be common, ceil or floor');
  }
  if (number === undefined)
    throw new TemplateFault(`type ${typeName(value)} doesn't define __round__ method`);
  if (Math.abs(digits) > 400) return digits > 0 ? number : 0;
  if (method !== 'common') {
    const scale = 10 ** digits;
    return (method === 'ceil' ? Math.ceil : Math.floor)(Number(number) * scale) / scale;
  }
  if (typeof number === 'number' && !Number.isFinite(number)) return number;
  if (typeof number === 'bigint' && digits >= 0) return number;
  if (typeof number === 'bigint') return roundInteger(number, 10n ** BigInt(-digits));
  const rounded = Number(`${roundScaled(Math.abs(number), digits)}e${-digits}`);
  return number < 0 ? -rounded : rounded;
}

function roundInteger(value: bigint, unit: bigint): bigint {
  const magnitude = value < 0n ? -value : value;
  const [quotient, twice] = [magnitude / unit, (magnitude % unit) * 2n];
  const up = twice > unit || (twice === unit && quotient % 2n === 1n);
  const result = (quotient + (up ? 1n : 0n)) * unit;
  return value < 0n ? -result : result;
}

const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz';
const PREFIXES: ReadonlyMap<string, number> = new Map([
  ['0b', 2],
  ['0o', 8],
  ['0x', 16],
]);

// As Python reads at most.
const LONGEST_NUMBER = 4_300;

/** `int(value, base)` of Python, or undefined where it raises. */
function parseInteger(value: Value, base: number): bigint | undefined {
  if (typeof value !== 'string') return truncated(value);
  if (value.length > LONGEST_NUMBER) return undefined;
  const match = /^\s*([-+]?)(0[box])?(\w+)\s*$/i.exec(value);
  if (match === null) return undefined;
  const [, sign, prefix, rest] = match as unknown as [string, string, string | undefined, string];
  const prefixBase = prefix === undefined ? undefined : PREFIXES.get(prefix.toLowerCase());
  const known = prefixBase !== undefined && (base === prefixBase || base === 0);
  const digits = known ? rest.replace(/^_/, '') : (prefix ?? '') + rest;
  const radix = known ? prefixBase : base === 0 ? 10 : base;
  if (!/^[a-z0-9]+(?:_[a-z0-9]+)*$/i.test(digits)) return undefined;
  let result = 0n;
  for (const digit of digits.replaceAll('_', '').toLowerCase()) {
    const worth = DIGITS.indexOf(digit);
    if (worth === -1 || worth >= radix) return undefined;
    result = result * BigInt(radix) + BigInt(worth);
  }
  return sign === '-' ? -result : result;
}

function truncated(value: Value): bigint | undefined {
  if (typeof value === 'boolean' || typeof value === 'bigint') return BigInt(value);
  const number = parseFloatText(value);
  return number === undefined || !Number.isFinite(number) ? undefined : BigInt(Math.trunc(number));
}

/** `float(value)` of Python, or undefined where it raises. */
function parseFloatText(value: Value): number | undefined {
  const number = asNumber(value);
  if (number !== undefined) return Number(number);
  refuseUndefined(value);
  if (typeof value !== 'string' || value.length > LONGEST_NUMBER) return undefined;
  const text = value.trim().toLowerCase();
  const special = /^([-+]?)(inf|infinity|nan)$/.exec(text);
  if (special !== null) return special[2] === 'nan' ? Number.NaN : special[1] === '-' ? -Infinity : Infinity;
  if (!/^[-+]?(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:e[-+]?\d+)?$/.test(text))
    return undefined;
  return Number(text.replaceAll('_', ''));
}

function indentOf(value: Value): string | undefined {
  if (value === null || typeof value === 'string') return value ?? undefined;
  return ' '.repeat(Math.min(1_000, Math.max(0, integerOf(value, 'indent'))));
}

function separatorsOf(value: Value, isOneLine: boolean): readonly [string, string] {
  if (value === null) return isOneLine ? [', ', ': '] : [',', ': '];
  const parts = value instanceof Tuple ? value.items : Array.isArray(value) ? value : [];
  if (parts.length !== 2) throw new TemplateFault('separators must be two texts');
  return [textOf(parts[0], 'a separator'), textOf(parts[1], 'a separator')];
}
