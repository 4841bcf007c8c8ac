import { type Budget, TemplateFault } from './budget.ts';
import { isLess } from './operators.ts';
import { replaceCharacters, reprFloat } from './text.ts';
import { Dict, Tuple, typeName, type Value } from './values.ts';

export interface JsonOptions {
  readonly ensureAscii: boolean;
  /** What one level is indented by; undefined for all in one line. */
  readonly indent: string | undefined;
  readonly separators: readonly [string, string];
  readonly sortKeys: boolean;
}

/** `json.dumps` of Python, as the filter `tojson` of transformers calls it. */
export function toJson(value: Value, options: JsonOptions, budget: Budget): string {
  return write(value, options, budget, 0);
}

function write(value: Value, options: JsonOptions, budget: Budget, level: number): string {
  budget.step();
  if (value === null) return 'null';
  if (typeof value === 'string') return writeText(value, options, budget);
  if (typeof value === 'number') return writeFloat(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (Array.isArray(value) || value instanceof Tuple) {
    const items = Array.isArray(value) ? value : value.items;
    const parts = items.map((item) => write(item, options, budget, level + 1));
    return enclose('[', parts, ']', options, budget, level);
  }
  if (!(value instanceof Dict)) {
    throw new TemplateFault(`Object of type ${typeName(value)} is not JSON serializable`);
  }
  const entries = [...value.entries()];
  if (options.sortKeys)
    entries.sort(([a], [b]) => (isLess(a, b, budget) ? -1 : Number(isLess(b, a, budget))));
  const parts = entries.map(
    ([key, item]) =>
      writeText(keyText(key), options, budget) +
      options.separators[1] +
      write(item, options, budget, level + 1),
  );
  return enclose('{', parts, '}', options, budget, level);
}

function enclose(
  open: string,
  parts: readonly string[],
  close: string,
  { indent, separators }: JsonOptions,
  budget: Budget,
  level: number,
): string {
  if (parts.length === 0) return open + close;
  const length = parts.reduce((sum, part) => sum + part.length + separators[0].length, 0);
  const lines = indent === undefined ? 0 : (parts.length + 1) * (1 + indent.length * (level + 1));
  budget.text(length + lines);
  if (indent === undefined) return open + parts.join(separators[0]) + close;
  const line = `\n${indent.repeat(level + 1)}`;
  return `${open}${line}${parts.join(separators[0] + line)}\n${indent.repeat(level)}${close}`;
}

function keyText(key: Value): string {
  if (typeof key === 'string') return key;
  if (key === null) return 'null';
  if (typeof key === 'number') return writeFloat(key);
  if (typeof key === 'boolean' || typeof key === 'bigint') return String(key);
  throw new TemplateFault(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
}

function writeFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value < 0 ? '-Infinity' : 'Infinity';
  return reprFloat(value);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them.
const SPECIAL = /["\\\x00-\x1f]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them.
const SPECIAL_OR_WIDE = /["\\\x00-\x1f\x7f-\uffff]/g;
const SHORT: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
  '\x7f': '\x7f',
};

function writeText(text: string, { ensureAscii }: JsonOptions, budget: Budget): string {
  const pattern = ensureAscii ? SPECIAL_OR_WIDE : SPECIAL;
  const escaped = replaceCharacters(text, pattern, escapeCharacter, budget);
  return `"${escaped}"`;
}

function escapeCharacter(character: string): string {
  return SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
