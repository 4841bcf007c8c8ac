import { ANY, type CharacterSet, characterSet, others } from '../characters.ts';

/** A regular expression as it is built; anchors stand only where they mean the whole text. */
export type Regex =
  | { readonly kind: 'set'; readonly set: CharacterSet }
  | { readonly kind: 'sequence'; readonly items: readonly Regex[] }
  | { readonly kind: 'choice'; readonly items: readonly Regex[] }
  | { readonly kind: 'repeat'; readonly item: Regex; readonly min: number; readonly max: number }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' };

/** A pattern is malformed, or beyond what finite automata can follow. */
export class PatternError extends Error {
  override name = 'PatternError';
}

/** Characters a pattern may have; published ones stay far below. */
const LONGEST = 10_000;
const MOST_NESTED = 64;
/** Rounds that a repetition may ask for. */
const MOST_ROUNDS = 65_536;

const DIGITS: CharacterSet = [[0x30, 0x39]];
const WORD: CharacterSet = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** As ECMAScript has it. */
const SPACES: CharacterSet = characterSet([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const LINE_ENDS: CharacterSet = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 };

/**
 * Parses a regular expression of ECMAScript (as with the flag u): characters, classes, groups, alternatives, repetitions, anchors.
 *
 * @throws PatternError for what is malformed, and for what looks around or back: lookahead, lookbehind, `\b`, back-references
 */
export function parseRegex(pattern: string): Regex {
  return new Parser(pattern).parse();
}

class Parser {
  readonly #characters: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    if (pattern.length > LONGEST) throw new PatternError(`it has more than ${LONGEST} characters`);
    this.#characters = [...pattern];
  }

  parse(): Regex {
    const regex = this.#alternatives();
    if (this.#peek() !== undefined) throw new PatternError('a ) has no ( before it');
    return regex;
  }

  #peek(ahead = 0): string | undefined {
    return this.#characters[this.#at + ahead];
  }

  #take(text: string): boolean {
    const isHere = [...text].every((one, i) => this.#peek(i) === one);
    if (isHere) this.#at += [...text].length;
    return isHere;
  }

  #alternatives(): Regex {
    if (++this.#depth > MOST_NESTED)
      throw new PatternError(`groups are nested more than ${MOST_NESTED} deep`);
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    this.#depth--;
    return items.length === 1 ? (items[0] as Regex) : { kind: 'choice', items };
  }

  #sequence(): Regex {
    const items: Regex[] = [];
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek())
      items.push(this.#repeated(this.#atom()));
    return { kind: 'sequence', items };
  }

  #repeated(item: Regex): Regex {
    const bounds = this.#quantifier();
    if (!bounds) return item;
    // Whether it takes much or little first, it matches the same texts.
    this.#take('?');
    if (item.kind === 'start' || item.kind === 'end') throw new PatternError('an anchor cannot be repeated');
    const [min, max] = bounds;
    if (max < min) throw new PatternError(`{${min},${max}} has its bounds the wrong way round`);
    if (Math.max(min, max === Infinity ? 0 : max) > MOST_ROUNDS)
      throw new PatternError(`it repeats something more than ${MOST_ROUNDS} times`);
    return { kind: 'repeat', item, min, max };
  }

  #quantifier(): readonly [number, number] | undefined {
    if (this.#take('*')) return [0, Infinity];
    if (this.#take('+')) return [1, Infinity];
    if (this.#take('?')) return [0, 1];
    if (this.#peek() !== '{') return undefined;
    const match = /^\{(\d+)(,(\d*))?\}/.exec(this.#characters.slice(this.#at, this.#at + 24).join(''));
    if (!match) throw new PatternError('a { begins no repetition; write \\{ for the character');
    this.#at += match[0].length;
    const min = Number(match[1]);
    return [min, match[2] === undefined ? min : match[3] ? Number(match[3]) : Infinity];
  }

  #atom(): Regex {
    const next = this.#peek() as string;
    if (this.#take('^')) return { kind: 'start' };
    if (this.#take('$')) return { kind: 'end' };
    if (this.#take('.')) return { kind: 'set', set: others(LINE_ENDS) };
    if (next === '(') return this.#group();
    if (next === '[') return { kind: 'set', set: this.#class() };
    if ('*+?{}]'.includes(next))
      throw new PatternError(`${next} stands where a character is expected; write \\${next} for it`);
    return { kind: 'set', set: this.#character(false) };
  }

  #group(): Regex {
    this.#at++;
    if (this.#take('?')) {
      const name = /^<[A-Za-z_$][\w$]*>/.exec(this.#characters.slice(this.#at, this.#at + 64).join(''));
      if (name) this.#at += name[0].length;
      else if (!this.#take(':'))
        throw new PatternError(
          'it looks ahead or behind, or sets flags, which no finite automaton can follow',
        );
    }
    const inner = this.#alternatives();
    if (!this.#take(')')) throw new PatternError('a ( has no ) behind it');
    return inner;
  }

  #class(): CharacterSet {
    this.#at++;
    const isNegated = this.#take('^');
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take(']')) {
      if (this.#peek() === undefined) throw new PatternError('a [ has no ] behind it');
      const first = this.#character(true);
      const [low, high] = [first[0]?.[0], first[0]?.[1]];
      const isRange = this.#peek() === '-' && this.#peek(1) !== ']' && this.#peek(1) !== undefined;
      if (!isRange || first.length !== 1 || low !== high) {
        ranges.push(...first);
        continue;
      }
      this.#at++;
      const last = this.#character(true);
      if (last.length !== 1 || last[0]?.[0] !== last[0]?.[1])
        throw new PatternError('a range of a class ends in another class');
      if ((last[0]?.[0] as number) < (low as number))
        throw new PatternError('a range of a class has its ends the wrong way round');
      ranges.push([low as number, last[0]?.[0] as number]);
    }
    return isNegated ? others(characterSet(ranges)) : characterSet(ranges);
  }

  /** One character, or an escape that stands for one or for several. */
  #character(inClass: boolean): CharacterSet {
    const character = this.#characters[this.#at++] as string;
    if (character !== '\\') return one(character.codePointAt(0) as number);
    const escaped = this.#characters[this.#at++];
    switch (escaped) {
      case undefined:
        throw new PatternError('it ends in a \\');
      case 'd':
        return DIGITS;
      case 'D':
        return others(DIGITS);
      case 'w':
        return WORD;
      case 'W':
        return others(WORD);
      case 's':
        return SPACES;
      case 'S':
        return others(SPACES);
      case 'p':
      case 'P':
        return this.#property(escaped);
      case 'x':
        return one(this.#hex(2));
      case 'u':
        return one(this.#unicode());
      case 'c':
        return one(((this.#characters[this.#at++] ?? '').charCodeAt(0) || 0) % 32);
      case 'b':
        if (inClass) return one(8);
        throw new PatternError('it has a \\b, which looks around');
      default:
        if (CONTROLS[escaped] !== undefined && !/\d/.test(escaped === '0' ? (this.#peek() ?? '') : ''))
          return one(CONTROLS[escaped]);
        if (/[\dkB]/.test(escaped))
          throw new PatternError(`it has a \\${escaped}, which looks back or around`);
        if (/[A-Za-z]/.test(escaped)) throw new PatternError(`it has the unknown escape \\${escaped}`);
        return one(escaped.codePointAt(0) as number);
    }
  }

  #unicode(): number {
    if (!this.#take('{')) {
      const unit = this.#hex(4);
      const isHigh = unit >= 0xd800 && unit < 0xdc00 && this.#take('\\u');
      return isHigh ? 0x10000 + ((unit & 0x3ff) << 10) + (this.#hex(4) & 0x3ff) : unit;
    }
    const end = this.#characters.indexOf('}', this.#at);
    const code = this.#hex(Math.max(1, end - this.#at));
    this.#at++;
    return code;
  }

  #hex(digits: number): number {
    const text = this.#characters.slice(this.#at, this.#at + digits).join('');
    const code = Number.parseInt(text, 16);
    if (!/^[\da-fA-F]+$/.test(text) || text.length !== digits || code > 0x10ffff)
      throw new PatternError(`${text || 'nothing'} is no character in hexadecimal`);
    this.#at += digits;
    return code;
  }

  #property(letter: 'p' | 'P'): CharacterSet {
    const end = this.#characters.indexOf('}', this.#at);
    const name = this.#characters.slice(this.#at, end + 1).join('');
    if (!/^\{[\w=]{1,64}\}$/.test(name)) throw new PatternError(`\\${letter} is not followed by {Property}`);
    this.#at = end + 1;
    const set = propertySet(name);
    return letter === 'p' ? set : others(set);
  }
}

function one(code: number): CharacterSet {
  return [[code, code]];
}

const properties = new Map<string, CharacterSet>();

/** The characters with a Unicode property, such as `{L}` or `{Script=Greek}`. */
function propertySet(name: string): CharacterSet {
  const known = properties.get(name);
  if (known) return known;
  let test: RegExp;
  try {
    test = new RegExp(`^\\p${name}$`, 'u');
  } catch {
    throw new PatternError(`\\p${name} is no property of Unicode`);
  }
  const ranges: [number, number][] = [];
  for (const [first, last] of ANY)
    for (let code = first; code <= last; code++) {
      if (!test.test(String.fromCodePoint(code))) continue;
      const before = ranges.at(-1);
      if (before && before[1] === code - 1) before[1] = code;
      else ranges.push([code, code]);
    }
  properties.set(name, ranges);
  return ranges;
}
