import { type Budget, TemplateFault } from './budget.ts';
import { formatMagnitude } from './format-number.ts';
import { repr, toText } from './text.ts';
import { characters, Dict, Tuple, textLength, typeName, type Value } from './values.ts';

const FIELD = /%(?:\(([^)]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+)?)?([hlL]?)(.)?/gs;

/** `format % values` of Python. */
export function formatPercent(format: string, values: Value, budget: Budget): string {
  const list = values instanceof Tuple ? values.items : [values];
  budget.text(format.length);
  let used = 0;
  let named = false;
  const next = (): Value => {
    const value = list[used++];
    if (value === undefined) throw new TemplateFault('not enough arguments for format string');
    return value;
  };
  const width = (text: string | undefined): number => {
    if (text !== '*') return Number(text ?? 0);
    const value = next();
    if (typeof value !== 'bigint') throw new TemplateFault('* wants int');
    return Number(value);
  };
  const result = format.replace(FIELD, (whole, key, flags, widthText, precisionText, _size, type) => {
    budget.step();
    if (type === undefined) throw new TemplateFault('incomplete format');
    if (type === '%') return '%';
    let value: Value;
    const columns = width(widthText);
    const hasPrecision = /\.(?:\*|\d*)[hlL]?.$/s.test(whole);
    const precision = hasPrecision ? width(precisionText) : undefined;
    if (key === undefined) value = next();
    else {
      if (!(values instanceof Dict)) throw new TemplateFault('format requires a mapping');
      named = true;
      const item = values.get(key);
      if (item === undefined) throw new TemplateFault(`KeyError: ${repr(key, budget)}`);
      value = item;
    }
    const text = convert(value, type, flags, precision, budget);
    return pad(text, columns, flags, 'diuoxXeEfFgG'.includes(type), budget);
  });
  const mayBeLeft = named || values instanceof Dict || Array.isArray(values);
  if (used < list.length && !mayBeLeft) {
    throw new TemplateFault('not all arguments converted during string formatting');
  }
  budget.text(result.length);
  return result;
}

function convert(
  value: Value,
  type: string,
  flags: string,
  precision: number | undefined,
  budget: Budget,
): string {
  if (type === 's' || type === 'r' || type === 'a') {
    const text = type === 's' ? toText(value, budget) : repr(value, budget);
    return precision === undefined ? text : characters(text).slice(0, precision).join('');
  }
  if (type === 'c') {
    if (typeof value === 'bigint' && value >= 0n && value <= 0x10ffffn)
      return String.fromCodePoint(Number(value));
    if (typeof value === 'string' && textLength(value) === 1) return value;
    throw new TemplateFault('%c requires int or char');
  }
  if (!'diuoxXeEfFgG'.includes(type)) throw new TemplateFault(`unsupported format character '${type}'`);
  if (typeof value !== 'bigint' && typeof value !== 'number' && typeof value !== 'boolean') {
    const wanted = 'diu'.includes(type) ? 'a real number is required' : 'a number is required';
    throw new TemplateFault(`%${type} format: ${wanted}, not ${typeName(value)}`);
  }
  const isInteger = 'diu'.includes(type);
  const number = typeof value === 'boolean' ? BigInt(value) : value;
  const whole = isInteger && typeof number === 'number' ? BigInt(Math.trunc(number)) : number;
  const magnitude = formatMagnitude(whole, {
    type: isInteger ? 'd' : type,
    precision,
    alternate: flags.includes('#'),
    grouping: '',
  });
  const digits = isInteger ? magnitude.padStart(precision ?? 0, '0') : magnitude;
  const isNegative = whole < 0 || Object.is(whole, -0);
  return (isNegative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '') + digits;
}

function pad(text: string, columns: number, flags: string, isNumber: boolean, budget: Budget): string {
  const missing = Math.abs(columns) - textLength(text);
  if (missing <= 0) return text;
  budget.text(missing);
  if (flags.includes('-') || columns < 0) return text + ' '.repeat(missing);
  if (!isNumber || !flags.includes('0')) return ' '.repeat(missing) + text;
  const sign = /^[-+ ]?(?:0[xXo])?/.exec(text)?.[0] ?? '';
  return sign + '0'.repeat(missing) + text.slice(sign.length);
}
