import { type Bound, flagOf, integerOf, type Signature, textOf } from './arguments.ts';
import { type Budget, TemplateFault } from './budget.ts';
import { iterate } from './iterate.ts';
import { capitalize, isTitle, lower, swapCase, title, upper } from './letter-case.ts';
import { splitLines, splitOn, splitOnSpace, stripEnds } from './split.ts';
import { characters, type Runtime, SPACE, Tuple, textLength, typeName, type Value } from './values.ts';

type Method = Signature<string>;

const every = (pattern: RegExp): Method => ['', (self) => pattern.test(self)];

/** Methods of `str` that a template may call, apart from `format`. */
export const STRING_METHODS: Readonly<Record<string, Method>> = {
  upper: ['', upper],
  lower: ['', lower],
  casefold: ['', (self) => lower(upper(lower(self)).replace(/ẞ/g, 'SS'))],
  title: ['', title],
  capitalize: ['', capitalize],
  swapcase: ['', swapCase],
  strip: ['chars?', (self, args) => strip(self, args, true, true)],
  lstrip: ['chars?', (self, args) => strip(self, args, true, false)],
  rstrip: ['chars?', (self, args) => strip(self, args, false, true)],
  split: ['sep? maxsplit?', (self, args, { budget }) => split(self, args, false, budget)],
  rsplit: ['sep? maxsplit?', (self, args, { budget }) => split(self, args, true, budget)],
  splitlines: ['keepends?', (self, [keep], { budget }) => splitLines(self, flagOf(keep), budget)],
  partition: ['sep', (self, [sep]) => partition(self, separator(sep), false)],
  rpartition: ['sep', (self, [sep]) => partition(self, separator(sep), true)],
  join: ['iterable', (self, [items], { budget }) => join(self, items as Value, budget)],
  replace: ['old new count?', (self, args, { budget }) => replaceText(self, args, budget)],
  startswith: ['prefix start? end?', (self, args) => hasAffix(self, args, 'startsWith')],
  endswith: ['suffix start? end?', (self, args) => hasAffix(self, args, 'endsWith')],
  find: ['sub start? end?', (self, args) => BigInt(find(self, args, 'indexOf'))],
  rfind: ['sub start? end?', (self, args) => BigInt(find(self, args, 'lastIndexOf'))],
  index: ['sub start? end?', (self, args) => found(find(self, args, 'indexOf'))],
  rindex: ['sub start? end?', (self, args) => found(find(self, args, 'lastIndexOf'))],
  count: ['sub start? end?', (self, args, { budget }) => countOf(self, args, budget)],
  removeprefix: [
    'prefix',
    (self, [prefix]) => cut(self, textOf(prefix, 'removeprefix() argument'), 'startsWith'),
  ],
  removesuffix: [
    'suffix',
    (self, [suffix]) => cut(self, textOf(suffix, 'removesuffix() argument'), 'endsWith'),
  ],
  center: ['width fillchar?', (self, args, runtime) => padded(self, args, 'center', runtime)],
  ljust: ['width fillchar?', (self, args, runtime) => padded(self, args, 'left', runtime)],
  rjust: ['width fillchar?', (self, args, runtime) => padded(self, args, 'right', runtime)],
  zfill: ['width', (self, [width], { budget }) => fillZeros(self, width as Value, budget)],
  expandtabs: [
    'tabsize?',
    (self, [size], { budget }) => expandTabs(self, integerOf(size, 'tabsize', 8), budget),
  ],
  isalpha: every(/^\p{L}+$/u),
  isdigit: every(/^[\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒]+$/u),
  isdecimal: every(/^\p{Nd}+$/u),
  isnumeric: every(
    /^[\p{N}\u3405\u3483\u382a\u3b4d\u4e00\u4e03\u4e07\u4e09\u4e5d\u4e8c\u4e94\u516b\u516d\u5341\u5343\u56db\u767e]+$/u,
  ),
  isalnum: every(/^[\p{L}\p{N}]+$/u),
  isspace: every(new RegExp(`^[${SPACE}]+$`)),
  isascii: ['', (self) => !/[^\0-\x7f]/.test(self)],
  isidentifier: every(/^[\p{ID_Start}_]\p{ID_Continue}*$/u),
  isprintable: ['', (self) => !/[\p{C}\p{Zl}\p{Zp}\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]/u.test(self)],
  islower: ['', (self) => /\p{Lowercase}/u.test(self) && !/[\p{Lu}\p{Lt}]/u.test(self)],
  isupper: ['', (self) => /\p{Uppercase}/u.test(self) && !/[\p{Ll}\p{Lt}]/u.test(self)],
  istitle: ['', isTitle],
};

function strip(self: string, [chars]: Bound, left: boolean, right: boolean): string {
  if (chars === undefined || chars === null) return stripEnds(self, undefined, left, right);
  return stripEnds(self, textOf(chars, 'strip arg'), left, right);
}

function split(self: string, [sep, most]: Bound, fromRight: boolean, budget: Budget): Value[] {
  const limit = integerOf(most, 'maxsplit', -1);
  const times = limit < 0 ? Number.POSITIVE_INFINITY : limit;
  if (sep === undefined || sep === null) return splitOnSpace(self, times, fromRight, budget);
  return splitOn(self, separator(sep), times, fromRight, budget);
}

function separator(value: Value | undefined): string {
  const text = textOf(value, 'separator');
  if (text === '') throw new TemplateFault('empty separator');
  return text;
}

function partition(self: string, sep: string, fromRight: boolean): Tuple {
  const at = fromRight ? self.lastIndexOf(sep) : self.indexOf(sep);
  if (at === -1) return new Tuple(fromRight ? ['', '', self] : [self, '', '']);
  return new Tuple([self.slice(0, at), sep, self.slice(at + sep.length)]);
}

function join(self: string, items: Value, budget: Budget): string {
  const parts: string[] = [];
  for (const item of iterate(items, budget)) {
    if (typeof item !== 'string') {
      throw new TemplateFault(
        `sequence item ${parts.length}: expected str instance, ${typeName(item)} found`,
      );
    }
    budget.text(item.length + self.length);
    parts.push(item);
  }
  return parts.join(self);
}

function replaceText(self: string, [oldValue, newValue, countValue]: Bound, budget: Budget): string {
  const [old, fresh] = [textOf(oldValue, 'replace() argument 1'), textOf(newValue, 'replace() argument 2')];
  return replaceIn(self, old, fresh, integerOf(countValue, 'count', -1), budget);
}

/** `text.replace(old, fresh, count)` of Python; a count below 0 means all. */
export function replaceIn(text: string, old: string, fresh: string, count: number, budget: Budget): string {
  const most = count < 0 ? Number.POSITIVE_INFINITY : count;
  if (old === '') {
    const gaps = characters(text);
    budget.items(gaps.length);
    budget.text(text.length + fresh.length * Math.min(most, gaps.length + 1));
    const filled = gaps.map((character, i) => (i < most ? fresh + character : character)).join('');
    return gaps.length < most ? filled + fresh : filled;
  }
  let found = 0;
  let end = 0;
  for (let at = text.indexOf(old); at !== -1 && found < most; at = text.indexOf(old, end)) {
    found++;
    end = at + old.length;
    if (found % 4096 === 0) budget.step(256);
  }
  budget.text(text.length + found * (fresh.length - old.length));
  // In a replacement text, `$` has a meaning.
  return text.slice(0, end).replaceAll(old, fresh.replaceAll('$', '$$$$')) + text.slice(end);
}

/** The part of a text that `start` and `end` leave, and where it begins, in characters. */
function section(
  self: string,
  start: Value | undefined,
  end: Value | undefined,
): [text: string, offset: number] | undefined {
  if ((start ?? null) === null && (end ?? null) === null) return [self, 0];
  const all = characters(self);
  const bound = (value: Value | undefined, otherwise: number) => {
    if (value === undefined || value === null) return otherwise;
    const index = integerOf(value, 'slice indices must be integers or None');
    return Math.max(0, index < 0 ? index + all.length : index);
  };
  const [from, to] = [bound(start, 0), Math.min(bound(end, all.length), all.length)];
  return from > to ? undefined : [all.slice(from, to).join(''), from];
}

function hasAffix(self: string, [affix, start, end]: Bound, test: 'startsWith' | 'endsWith'): boolean {
  const part = section(self, start, end)?.[0];
  const options = affix instanceof Tuple ? affix.items : [affix as Value];
  const name = test.toLowerCase();
  return options.some((option) => {
    if (typeof option === 'string') return part?.[test](option) ?? false;
    throw new TemplateFault(`${name} first arg must be str or a tuple of str, not ${typeName(option)}`);
  });
}

function find(self: string, [sub, start, end]: Bound, method: 'indexOf' | 'lastIndexOf'): number {
  const wanted = textOf(sub, 'find() argument');
  const part = section(self, start, end);
  const at = part?.[0][method](wanted) ?? -1;
  return part === undefined || at === -1 ? -1 : textLength(part[0].slice(0, at)) + part[1];
}

function found(index: number): bigint {
  if (index === -1) throw new TemplateFault('substring not found');
  return BigInt(index);
}

function countOf(self: string, [sub, start, end]: Bound, budget: Budget): bigint {
  const wanted = textOf(sub, 'count() argument');
  const part = section(self, start, end)?.[0];
  if (part === undefined) return 0n;
  if (wanted === '') return BigInt(textLength(part) + 1);
  return BigInt(splitOn(part, wanted, Number.POSITIVE_INFINITY, false, budget).length - 1);
}

function cut(self: string, affix: string, test: 'startsWith' | 'endsWith'): string {
  if (affix === '' || !self[test](affix)) return self;
  return test === 'startsWith' ? self.slice(affix.length) : self.slice(0, -affix.length);
}

/** Fills a text up to `width` characters; what is there stands on the `side` named. */
function padded(
  self: string,
  [width, fill]: Bound,
  side: 'left' | 'right' | 'center',
  { budget }: Runtime,
): string {
  const character = fill === undefined ? ' ' : textOf(fill, 'fillchar');
  if (textLength(character) !== 1)
    throw new TemplateFault('The fill character must be exactly one character long');
  return padTo(self, integerOf(width, 'width'), character, side, budget);
}

export function padTo(
  text: string,
  width: number,
  fill: string,
  side: 'left' | 'right' | 'center',
  budget: Budget,
): string {
  const missing = width - textLength(text);
  if (missing <= 0) return text;
  budget.text(missing);
  // As Python has it: an odd one goes to the left where the width is odd.
  const centred = Math.floor(missing / 2) + (missing & width & 1);
  const before = side === 'left' ? 0 : side === 'right' ? missing : centred;
  return fill.repeat(before) + text + fill.repeat(missing - before);
}

function fillZeros(self: string, width: Value, budget: Budget): string {
  const missing = integerOf(width, 'width') - textLength(self);
  if (missing <= 0) return self;
  budget.text(missing);
  const sign = self.startsWith('-') || self.startsWith('+') ? (self[0] as string) : '';
  return sign + '0'.repeat(missing) + self.slice(sign.length);
}

function expandTabs(self: string, size: number, budget: Budget): string {
  let column = 0;
  let result = '';
  for (const character of iterate(self, budget) as Iterable<string>) {
    const spaces = size > 0 ? size - (column % size) : 0;
    const piece = character === '\t' ? budget.join('', ' '.repeat(spaces)) : character;
    if (character === '\t') column += spaces;
    else column = character === '\n' || character === '\r' ? 0 : column + 1;
    result = budget.join(result, piece);
  }
  return result;
}
