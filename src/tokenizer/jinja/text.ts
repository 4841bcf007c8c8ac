import type { Budget } from './budget.ts';
import {
  Callable,
  Dict,
  DictView,
  Namespace,
  Range,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** `str(value)` of Python. */
export function toText(value: Value, budget: Budget): string {
  if (typeof value === 'string') return value;
  if (value instanceof Undefined) return '';
  return repr(value, budget);
}

/** `repr(value)` of Python. */
export function repr(value: Value, budget: Budget): string {
  budget.step();
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value === 'string') return reprText(value, budget);
  if (typeof value === 'number') return reprFloat(value);
  if (typeof value === 'bigint') return value.toString();
  const list = (items: readonly Value[]) =>
    join(
      items.map((item) => repr(item, budget)),
      budget,
    );
  if (Array.isArray(value)) return `[${list(value)}]`;
  if (value instanceof Tuple)
    return value.items.length === 1 ? `(${list(value.items)},)` : `(${list(value.items)})`;
  if (value instanceof Dict) return `{${reprEntries(value.entries(), budget)}}`;
  if (value instanceof DictView) return `${value.type}([${list(value.items())}])`;
  if (value instanceof Range) {
    const ends = `${value.start}, ${value.stop}`;
    return value.step === 1 ? `range(${ends})` : `range(${ends}, ${value.step})`;
  }
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Namespace) return `<Namespace {${reprEntries([...value.fields], budget)}}>`;
  if (value instanceof Callable) return `<function ${value.name}>`;
  return `<${typeName(value)} object>`;
}

function reprEntries(entries: readonly (readonly [Value, Value])[], budget: Budget): string {
  return join(
    entries.map(([key, item]) => `${repr(key, budget)}: ${repr(item, budget)}`),
    budget,
  );
}

function join(parts: readonly string[], budget: Budget): string {
  budget.text(parts.reduce((sum, part) => sum + part.length + 2, 0));
  return parts.join(', ');
}

// Control, format, unassigned, private and separator characters; the space is printable.
const UNPRINTABLE = /[\p{C}\p{Z}\\]/u;
const UNPRINTABLES = /[\p{C}\p{Z}\\]/gu;
const SHORT: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\\': '\\\\',
  ' ': ' ',
};

function reprText(text: string, budget: Budget): string {
  budget.text(text.length + 2);
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let body = UNPRINTABLE.test(text) ? replaceCharacters(text, UNPRINTABLES, escapeCharacter, budget) : text;
  if (quote === "'") body = body.replaceAll("'", "\\'");
  return quote + body + quote;
}

function escapeCharacter(character: string): string {
  const short = SHORT[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) as number;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, '0')}`;
  return `\\U${code.toString(16).padStart(8, '0')}`;
}

// Characters looked through between two payments.
const PART = 32_768;

/** `text.replace` of single characters, in parts, because one go over a long text takes seconds. */
export function replaceCharacters(
  text: string,
  pattern: RegExp,
  replacement: (character: string) => string,
  budget: Budget,
): string {
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = Math.min(at + PART, text.length);
    const cutsPair = end < text.length && (text.codePointAt(end - 1) as number) > 0xffff;
    const part = text.slice(at, cutsPair ? end - 1 : end).replace(pattern, replacement);
    budget.text(part.length);
    parts.push(part);
    at = cutsPair ? end - 1 : end;
  }
  return parts.length === 1 ? (parts[0] as string) : parts.join('');
}

/** `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on. */
export function reprFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  const [mantissa, exponentText] = value.toExponential().split('e') as [string, string];
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const digits = mantissa.replace(/[-.]/g, '');
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`;
}
