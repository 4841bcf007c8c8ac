import { TemplateFault } from './budget.ts';
import { SPACE } from './values.ts';

/** A piece of a template: text to print, the borders of `{{ … }}` and `{% … %}`, or what stands between them. */
export interface Token {
  readonly type:
    | 'text'
    | 'print begin'
    | 'print end'
    | 'block begin'
    | 'block end'
    | 'name'
    | 'integer'
    | 'float'
    | 'string'
    | 'operator'
    | 'end';
  /** The text, name or operator; of a string, what it stands for. */
  readonly value: string;
  readonly line: number;
}

const LONGEST_TEMPLATE = 2 ** 20;

const OPENING = /\{[%{#]/g;
const RAW_BEGIN = new RegExp(`\\{%[-+]?[${SPACE}]*raw[${SPACE}]*(?:-%\\}[${SPACE}]*|%\\})`, 'y');
const RAW_END = new RegExp(
  `\\{%([-+]?)[${SPACE}]*endraw[${SPACE}]*(?:\\+%\\}|-%\\}[${SPACE}]*|%\\}\\n?)`,
  'g',
);
const COMMENT_END = new RegExp(`\\+#\\}|-#\\}[${SPACE}]*|#\\}\\n?`, 'g');
const BLOCK_END = new RegExp(`\\+%\\}|-%\\}[${SPACE}]*|%\\}\\n?`, 'y');
const PRINT_END = new RegExp(`-\\}\\}[${SPACE}]*|\\}\\}`, 'y');
const WHITE = new RegExp(`[${SPACE}]+`, 'y');
const ONLY_WHITE = new RegExp(`^[${SPACE}]+$`);
const TRAILING_WHITE = new RegExp(`[${SPACE}]$`);
const FLOAT = /\d+(?:_\d+)*(?:(?:\.\d+(?:_\d+)*)?e[+-]?\d+(?:_\d+)*|\.\d+(?:_\d+)*)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{L}\p{N}_\p{M}]+/uy;
const IDENTIFIER = /^[\p{ID_Start}_]\p{ID_Continue}*$/u;
const STRING = /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[+\-/*%~[\](){}><=.:|,;]/y;
const CLOSES: Readonly<Record<string, string>> = { '}': '{', ')': '(', ']': '[' };

/**
 * Cuts a template into tokens, with `trim_blocks` and `lstrip_blocks` as transformers sets them.
 *
 * Source: Jinja 3.1 `jinja2/lexer.py`, class `Lexer`.
 */
export function tokenize(template: string): Token[] {
  if (template.length > LONGEST_TEMPLATE) {
    throw new TemplateFault(`it has ${template.length} characters; the limit is ${LONGEST_TEMPLATE}`);
  }
  return new Lexer(template.replace(/\r\n?/g, '\n').replace(/\n$/, '')).run();
}

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #position = 0;
  #line = 1;
  #counted = 0;
  /** Whether the token before ended a line; white space before a block goes only where it begins one. */
  #startsLine = true;

  constructor(source: string) {
    this.#source = source;
  }

  run(): Token[] {
    const source = this.#source;
    while (this.#position < source.length) {
      OPENING.lastIndex = this.#position;
      const opening = OPENING.exec(source);
      if (opening === null) {
        this.#push('text', source.slice(this.#position));
        break;
      }
      const kind = opening[0][1] as string;
      const text = source.slice(this.#position, opening.index);
      const after = opening.index + 2;
      const sign = source[after] === '-' || source[after] === '+' ? (source[after] as string) : '';
      this.#push('text', this.#stripBefore(text, kind, sign));
      this.#position = after + sign.length;
      if (kind === '#') this.#comment();
      else if (kind === '%' && this.#at(RAW_BEGIN, opening.index)) this.#raw();
      else this.#code(kind === '{' ? 'print' : 'block');
    }
    this.#push('end', '');
    return this.#tokens;
  }

  /** The text before an opening, without what its sign or `lstrip_blocks` takes away. */
  #stripBefore(text: string, kind: string, sign: string): string {
    if (sign === '-') return trimEnd(text);
    if (sign === '+' || kind === '{') return text;
    const lineStart = text.lastIndexOf('\n') + 1;
    if (lineStart === 0 && !this.#startsLine) return text;
    return ONLY_WHITE.test(text.slice(lineStart)) ? text.slice(0, lineStart) : text;
  }

  #comment(): void {
    COMMENT_END.lastIndex = this.#position;
    const end = COMMENT_END.exec(this.#source);
    if (end === null) throw this.#fault('Missing end of comment tag');
    this.#moveTo(end.index + end[0].length);
  }

  #raw(): void {
    this.#moveTo(RAW_BEGIN.lastIndex);
    RAW_END.lastIndex = this.#position;
    const end = RAW_END.exec(this.#source);
    if (end === null) throw this.#fault('Missing end of raw directive');
    this.#push(
      'text',
      this.#stripBefore(this.#source.slice(this.#position, end.index), '%', end[1] as string),
    );
    this.#moveTo(end.index + end[0].length);
  }

  #code(kind: 'print' | 'block'): void {
    this.#push(`${kind} begin`, '');
    const end = kind === 'print' ? PRINT_END : BLOCK_END;
    const open: string[] = [];
    for (;;) {
      // Inside brackets, `}}` closes two dicts.
      if (open.length === 0 && this.#at(end)) {
        this.#push(`${kind} end`, '');
        this.#moveTo(end.lastIndex);
        return;
      }
      if (this.#at(WHITE)) this.#moveTo(WHITE.lastIndex);
      else if (this.#at(FLOAT)) this.#take('float', FLOAT);
      else if (this.#at(INTEGER)) this.#take('integer', INTEGER);
      else if (this.#at(NAME)) this.#name();
      else if (this.#at(STRING)) this.#string();
      else if (this.#at(OPERATOR)) this.#operator(open);
      else if (this.#position >= this.#source.length) throw this.#fault('unexpected end of template');
      else throw this.#fault(`unexpected char ${JSON.stringify(this.#source[this.#position])}`);
    }
  }

  #name(): void {
    const text = this.#source.slice(this.#position, NAME.lastIndex);
    if (!IDENTIFIER.test(text)) throw this.#fault(`Invalid character in identifier ${text}`);
    this.#take('name', NAME);
  }

  #string(): void {
    const text = this.#source.slice(this.#position + 1, STRING.lastIndex - 1);
    this.#push('string', this.#unescape(text));
    this.#moveTo(STRING.lastIndex);
  }

  #operator(open: string[]): void {
    const value = this.#source.slice(this.#position, OPERATOR.lastIndex);
    if (value === '{' || value === '(' || value === '[') open.push(value);
    const opener = CLOSES[value];
    if (opener !== undefined && open.pop() !== opener) throw this.#fault(`unexpected '${value}'`);
    this.#take('operator', OPERATOR);
  }

  /** What a string stands for, as in a Python literal; unknown escapes stay as they are. */
  #unescape(text: string): string {
    if (!text.includes('\\')) return text;
    return text.replace(ESCAPE, (whole, hex2, hex4, hex8, octal, line, letter) => {
      const hex = hex2 ?? hex4 ?? hex8;
      if (hex !== undefined && Number.parseInt(hex, 16) <= 0x10ffff) {
        return String.fromCodePoint(Number.parseInt(hex, 16));
      }
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      if (line !== undefined) return '';
      if ('xuUN'.includes(letter)) throw this.#fault(`a string has a bad escape ${whole}`);
      return LETTERS[letter] ?? whole;
    });
  }

  #at(pattern: RegExp, position = this.#position): boolean {
    pattern.lastIndex = position;
    return pattern.test(this.#source);
  }

  #take(type: Token['type'], pattern: RegExp): void {
    this.#push(type, this.#source.slice(this.#position, pattern.lastIndex));
    this.#moveTo(pattern.lastIndex);
  }

  #push(type: Token['type'], value: string): void {
    if (type === 'text' && value === '') return;
    for (; this.#counted < this.#position; this.#counted++) {
      if (this.#source[this.#counted] === '\n') this.#line++;
    }
    this.#tokens.push({ type, value, line: this.#line });
  }

  #moveTo(position: number): void {
    this.#position = position;
    this.#startsLine = this.#source[position - 1] === '\n';
  }

  #fault(reason: string): TemplateFault {
    const line = this.#source.slice(0, this.#position).split('\n').length;
    return new TemplateFault(`line ${line}: ${reason}`);
  }
}

const ESCAPE = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|(\n)|(.))/gsu;
const LETTERS: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && TRAILING_WHITE.test(text[end - 1] as string)) end--;
  return text.slice(0, end);
}
