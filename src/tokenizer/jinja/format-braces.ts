import { TemplateFault } from './budget.ts';
import { formatMagnitude } from './format-number.ts';
import { repr, toText } from './text.ts';
import {
  type Arguments,
  characters,
  type Runtime,
  textLength,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

const FIELD = /^([^!:[.]*)((?:\.[^.[!:]*|\[[^\]]*\])*)(?:!(.))?(?::(.*))?$/s;
const SPEC = /^(?:(.)?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([bcdeEfFgGnosxX%])?$/su;

/** How `{name.attribute[item]}` is looked up. */
export interface Lookup {
  attribute(object: Value, name: string, runtime: Runtime): Value;
  item(object: Value, key: Value, runtime: Runtime): Value;
}

/** `text.format(…)` of Python, in Jinja's sandbox. */
export function formatBraces(text: string, args: Arguments, lookup: Lookup, runtime: Runtime): string {
  let automatic = 0;
  const field = (body: string): string => {
    runtime.budget.step();
    const match = FIELD.exec(body);
    if (match === null) throw new TemplateFault(`bad field {${body}} in format string`);
    const [, name = '', path = '', conversion, spec = ''] = match;
    const key = name === '' ? String(automatic++) : name;
    let value = /^\d+$/.test(key) ? args.positional[Number(key)] : args.named.get(key);
    if (value === undefined) {
      throw new TemplateFault(
        /^\d+$/.test(key)
          ? `Replacement index ${key} out of range for positional args tuple`
          : `KeyError: '${key}'`,
      );
    }
    for (const [, attribute, item] of path.matchAll(/\.([^.[]*)|\[([^\]]*)\]/g)) {
      const at: Value = value;
      if (attribute !== undefined) value = lookup.attribute(at, attribute, runtime);
      else
        value = lookup.item(
          at,
          /^\d+$/.test(item as string) ? BigInt(item as string) : (item as string),
          runtime,
        );
    }
    const converted = conversion === undefined ? value : convert(value, conversion, runtime);
    return formatValue(converted, expand(spec), runtime);
  };
  const expand = (part: string): string => replaceFields(part, field, runtime);
  return expand(text);
}

/** Replaces `{…}`, which may hold further ones in its format, and `{{`, `}}`. */
function replaceFields(text: string, field: (body: string) => string, runtime: Runtime): string {
  const { budget } = runtime;
  let result = '';
  for (let i = 0; i < text.length; ) {
    const next = /[{}]/g;
    next.lastIndex = i;
    const at = next.exec(text)?.index ?? text.length;
    result = budget.join(result, text.slice(i, at));
    if (at === text.length) break;
    if (text[at + 1] === text[at]) {
      result = budget.join(result, text[at] as string);
      i = at + 2;
      continue;
    }
    if (text[at] === '}') throw new TemplateFault("Single '}' encountered in format string");
    let depth = 1;
    let end = at + 1;
    for (; end < text.length && depth > 0; end++) {
      if (text[end] === '{') depth++;
      else if (text[end] === '}') depth--;
    }
    if (depth > 0) throw new TemplateFault("expected '}' before end of string");
    budget.step(end - at);
    result = budget.join(result, field(text.slice(at + 1, end - 1)));
    i = end;
  }
  return result;
}

function convert(value: Value, conversion: string, runtime: Runtime): string {
  if (conversion === 's') return toText(value, runtime.budget);
  if (conversion === 'r' || conversion === 'a') return repr(value, runtime.budget);
  throw new TemplateFault(`Unknown conversion specifier ${conversion}`);
}

/** `format(value, spec)` of Python. */
function formatValue(value: Value, spec: string, runtime: Runtime): string {
  const { budget } = runtime;
  if (spec === '') return toText(value, budget);
  const match = SPEC.exec(spec);
  if (match === null) throw new TemplateFault(`Invalid format specifier '${spec}'`);
  const [, fillText, alignText, sign, , alternate, zero, width, grouping = '', precision, type = ''] = match;
  const isNumber =
    typeof value === 'bigint' || typeof value === 'number' || (typeof value === 'boolean' && type !== '');
  let text: string;
  let prefix = '';
  if (isNumber && type === 'c') text = String.fromCodePoint(Number(value));
  else if (isNumber) {
    if (type === 's')
      throw new TemplateFault(`Unknown format code 's' for object of type '${typeName(value)}'`);
    const number = typeof value === 'boolean' ? BigInt(value) : (value as bigint | number);
    if (typeof number === 'number' && 'bcdoxX'.includes(type) && type !== '') {
      throw new TemplateFault(`Unknown format code '${type}' for object of type 'float'`);
    }
    text = formatMagnitude(number, {
      type,
      precision: precision === undefined ? undefined : Number(precision),
      alternate: alternate !== undefined,
      grouping,
    });
    const isNegative = number < 0 || Object.is(number, -0);
    prefix = isNegative ? '-' : sign === '+' || sign === ' ' ? sign : '';
  } else {
    if (typeof value !== 'string' && !(typeof value === 'boolean') && !(value instanceof Undefined)) {
      throw new TemplateFault(`unsupported format string passed to ${typeName(value)}.__format__`);
    }
    if (type !== '' && type !== 's')
      throw new TemplateFault(`Unknown format code '${type}' for object of type 'str'`);
    const whole = toText(value, budget);
    text = precision === undefined ? whole : characters(whole).slice(0, Number(precision)).join('');
  }
  const missing = Number(width ?? 0) - textLength(prefix + text);
  if (missing <= 0) return prefix + text;
  budget.text(missing);
  const fill = fillText ?? (zero === undefined ? ' ' : '0');
  const align = alignText ?? (isNumber ? (zero === undefined ? '>' : '=') : '<');
  const left = align === '<' ? 0 : align === '^' ? Math.floor(missing / 2) : missing;
  if (align === '=') return prefix + fill.repeat(missing) + text;
  return fill.repeat(left) + prefix + text + fill.repeat(missing - left);
}
