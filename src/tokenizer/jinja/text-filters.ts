import { flagOf, integerOf, type Signature, textOf } from './arguments.ts';
import { type Budget, TemplateFault } from './budget.ts';
import { attributeGetter } from './filter-helpers.ts';
import { formatPercent } from './format-percent.ts';
import { isIterable, iterate } from './iterate.ts';
import { capitalize, lower, upper } from './letter-case.ts';
import { refuseUndefined } from './operators.ts';
import { splitLines, splitOnSpace, stripEnds } from './split.ts';
import { padTo, replaceIn } from './string-methods.ts';
import { replaceCharacters, toText } from './text.ts';
import {
  type Arguments,
  characters,
  Dict,
  type Runtime,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

type Filter = Signature<Value>;

/** A filter of text: takes any value as text, and pays for it. */
function ofText(change: (text: string, budget: Budget) => Value): Filter {
  return ['', (value, _args, { budget }) => change(paidText(value, budget), budget)];
}

function paidText(value: Value, budget: Budget): string {
  const text = toText(value, budget);
  budget.text(text.length);
  return text;
}

/** Filters of text. Source: Jinja 3.1 `jinja2/filters.py`. */
export const TEXT_FILTERS: Readonly<Record<string, Filter>> = {
  string: ['', (value, _args, { budget }) => toText(value, budget)],
  safe: ['', (value, _args, { budget }) => toText(value, budget)],
  upper: ofText(upper),
  lower: ofText(lower),
  capitalize: ofText(capitalize),
  title: ofText((text) =>
    text
      .split(/([-\s({[<]+)/)
      .map((word) => upper(characters(word)[0] ?? '') + lower(characters(word).slice(1).join('')))
      .join(''),
  ),
  escape: ofText(escapeHtml),
  e: ofText(escapeHtml),
  forceescape: ofText(escapeHtml),
  striptags: ofText(stripTags),
  wordcount: ofText((text, budget) => {
    const count = text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0;
    budget.items(count);
    return BigInt(count);
  }),
  trim: [
    'chars?',
    (value, [chars], { budget }) => {
      const set = chars === undefined || chars === null ? undefined : textOf(chars, 'strip arg');
      return stripEnds(paidText(value, budget), set, true, true);
    },
  ],
  center: [
    'width?',
    (value, [width], { budget }) =>
      padTo(paidText(value, budget), integerOf(width, 'width', 80), ' ', 'center', budget),
  ],
  replace: [
    'old new count?',
    (value, [old, fresh, count], { budget }) => {
      const times = count === null ? -1 : integerOf(count, 'count', -1);
      const [from, to] = [toText(old as Value, budget), toText(fresh as Value, budget)];
      return replaceIn(paidText(value, budget), from, to, times, budget);
    },
  ],
  join: [
    'd? attribute?',
    (value, [separator = '', attribute], runtime) => {
      const { budget } = runtime;
      const get = attributeGetter(attribute, runtime);
      const between = toText(separator, budget);
      const parts: string[] = [];
      for (const item of iterate(value, budget)) {
        const text = toText(get(item), budget);
        budget.text(text.length + between.length);
        parts.push(text);
      }
      return parts.join(between);
    },
  ],
  truncate: ['length? killwords? end? leeway?', truncate],
  indent: ['width? first? blank?', indent],
  urlencode: ['', (value, _args, { budget }) => urlEncode(value, budget)],
  xmlattr: ['autospace?', (value, [space], { budget }) => xmlAttributes(value, flagOf(space, true), budget)],
  filesizeformat: ['binary?', (value, [base2]) => fileSize(value, flagOf(base2))],
};

/** `format % args` as a filter. */
export function formatFilter(value: Value, { positional, named }: Arguments, { budget }: Runtime): string {
  if (positional.length > 0 && named.size > 0) {
    throw new TemplateFault("can't handle positional and keyword arguments at the same time");
  }
  const values = named.size > 0 ? new Dict(named) : new Tuple(positional);
  return formatPercent(toText(value, budget), values, budget);
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
};

function escapeHtml(text: string, budget: Budget): string {
  return replaceCharacters(text, /[&<>'"]/g, (character) => ENTITIES[character] as string, budget);
}

function stripTags(text: string, budget: Budget): string {
  let result = text;
  for (const [open, close] of [
    ['<!--', '-->'],
    ['<', '>'],
  ] as const) {
    const kept: string[] = [];
    let from = 0;
    for (;;) {
      const start = result.indexOf(open, from);
      const end = start === -1 ? -1 : result.indexOf(close, start);
      if (end === -1) break;
      kept.push(result.slice(from, start));
      from = end + close.length;
      budget.items(1);
    }
    result = kept.join('') + result.slice(from);
  }
  const plain = splitOnSpace(result, Number.POSITIVE_INFINITY, false, budget).join(' ');
  return plain.replace(/&(amp|lt|gt|quot|#3[49]);/g, (entity, name) => {
    const known = Object.entries(ENTITIES).find(([, code]) => code === entity)?.[0];
    return known ?? (name === 'quot' ? '"' : entity);
  });
}

function truncate(
  value: Value,
  [length, kill, end = '...', leeway]: readonly (Value | undefined)[],
  { budget }: Runtime,
): Value {
  const [most, extra] = [integerOf(length, 'length', 255), integerOf(leeway ?? undefined, 'leeway', 5)];
  const text = textOf(value, 'truncate() argument');
  const tail = textOf(end, 'end');
  const room = most - characters(tail).length;
  if (room < 0 || extra < 0)
    throw new TemplateFault(`expected length >= ${characters(tail).length}, got ${most}`);
  budget.items(text.length);
  const all = characters(text);
  if (all.length <= most + extra) return text;
  const cut = all.slice(0, room).join('');
  const space = cut.lastIndexOf(' ');
  return flagOf(kill) || space === -1 ? cut + tail : cut.slice(0, space) + tail;
}

function indent(
  value: Value,
  [width = 4n, first, blank]: readonly (Value | undefined)[],
  { budget }: Runtime,
): Value {
  const spaces = typeof width === 'string' ? 0 : Math.max(0, integerOf(width, 'width'));
  budget.text(spaces);
  const margin = typeof width === 'string' ? width : ' '.repeat(spaces);
  const text = textOf(value, 'indent() argument');
  budget.text(text.length);
  const lines = splitLines(`${text}\n`, false, budget);
  budget.text(lines.reduce((sum, line) => sum + line.length + margin.length + 1, 0));
  const indented = lines.map((line, i) => {
    const isIndented = i === 0 ? flagOf(first) : line !== '' || flagOf(blank);
    return isIndented ? margin + line : line;
  });
  return indented.join('\n');
}

function urlEncode(value: Value, budget: Budget): string {
  const quote = (part: Value, isQuery: boolean) => {
    const text = toText(part, budget);
    budget.text(9 * text.length);
    const quoted = encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, '\ufffd')).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    );
    return isQuery ? quoted.replaceAll('%20', '+') : quoted.replaceAll('%2F', '/');
  };
  if (typeof value === 'string' || !isIterable(value)) return quote(value, false);
  const pairs =
    value instanceof Dict
      ? value.entries()
      : [...iterate(value, budget)].map((pair) => (pair as Tuple).items);
  return pairs.map(([key, item]) => `${quote(key as Value, true)}=${quote(item as Value, true)}`).join('&');
}

function xmlAttributes(value: Value, space: boolean, budget: Budget): string {
  if (!(value instanceof Dict))
    throw new TemplateFault(`'${typeName(value)}' object has no attribute 'items'`);
  const parts = value
    .entries()
    .filter(([, item]) => item !== null && !(item instanceof Undefined))
    .map(([key, item]) => {
      const name = toText(key, budget);
      if (/[\s/>=]/.test(name)) throw new TemplateFault(`Invalid character in attribute name: '${name}'`);
      return `${escapeHtml(name, budget)}="${escapeHtml(toText(item, budget), budget)}"`;
    });
  return (space && parts.length > 0 ? ' ' : '') + parts.join(' ');
}

function fileSize(value: Value, isBinary: boolean): string {
  refuseUndefined(value);
  const bytes = Number(value);
  if (Number.isNaN(bytes)) throw new TemplateFault(`could not convert to float: ${typeName(value)}`);
  const base = isBinary ? 1024 : 1000;
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  const prefixes = [...(isBinary ? 'KMGTPEZY' : 'kMGTPEZY')].map(
    (letter) => letter + (isBinary ? 'iB' : 'B'),
  );
  const step = prefixes.findIndex((_, i) => bytes < base ** (i + 2));
  const at = step === -1 ? prefixes.length - 1 : step;
  return `${((base * bytes) / base ** (at + 2)).toFixed(1)} ${prefixes[at]}`;
}
