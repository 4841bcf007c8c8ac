/** Reads JSON piece by piece; nothing here knows files. */

/** The text is not the JSON it should be. The message says what was met and where; the caller adds the file. */
export class JsonSyntaxError extends Error {
  override name = 'JsonSyntaxError';
}

/** The bytes at hand end inside a value. A reader that holds only a part of the text loads more and tries again. */
export class JsonEndError extends JsonSyntaxError {
  override name = 'JsonEndError';
}

const QUOTE = 0x22;
const MINUS = 0x2d;
const ZERO = 0x30;
/** So many always make a whole number that is exact. */
const SHORT_DIGITS = 15;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** What Python's json module writes beyond JSON. */
const PYTHON_NUMBERS: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

/**
 * Reads JSON bytes piece by piece, so that a caller can bound what it accepts, see every key (also repeated ones),
 * and leave the event loop free between pieces.
 */
export class JsonCursor {
  position = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves past a byte order mark, which some editors put before UTF-8 text. */
  skipByteOrderMark(): void {
    if (this.position === 0 && this.#bytes.subarray(0, 3).equals(BYTE_ORDER_MARK)) this.position = 3;
  }

  /** Moves past `word` if it comes next. */
  acceptWord(word: string): boolean {
    this.peek();
    if (this.#bytes.toString('latin1', this.position, this.position + word.length) !== word) return false;
    this.position += word.length;
    return true;
  }

  /** The next byte that is not white space, or undefined at the end; does not move past it. */
  peek(): number | undefined {
    const bytes = this.#bytes;
    for (; this.position < bytes.length; this.position++) {
      const byte = bytes[this.position] as number;
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
    }
    return undefined;
  }

  /** Moves past `character` if it comes next. */
  accept(character: ',' | ':' | '{' | '}' | '[' | ']'): boolean {
    if (this.peek() !== character.charCodeAt(0)) return false;
    this.position++;
    return true;
  }

  expect(character: ',' | ':' | '{' | '}' | '[' | ']'): void {
    if (!this.accept(character)) throw this.#unexpected(`"${character}"`);
  }

  /** A string of at most `maxBytes` bytes of text. */
  readString(maxBytes: number): string {
    if (this.peek() !== QUOTE) throw this.#unexpected('a string');
    const bytes = this.#bytes;
    const start = this.position + 1;
    let plain = true;
    let at = start;
    for (; ; at++) {
      if (at - start > maxBytes) throw this.#error(`a string is longer than ${maxBytes} bytes`);
      const byte = bytes[at];
      if (byte === undefined) throw this.#end();
      if (byte === QUOTE) break;
      if (byte < 0x20) throw this.#error('a string contains a control character');
      if (byte === BACKSLASH) at++;
      if (byte === BACKSLASH || byte >= 0x80) plain = false;
    }
    const text = plain ? bytes.toString('latin1', start, at) : this.#decode(start, at);
    this.position = at + 1;
    return text;
  }

  /** A whole number from 0 to 2^53 − 1, written in digits only. */
  readUnsigned(): number {
    if (this.peek() === undefined) throw this.#end();
    const short = this.#shortNumber();
    if (short !== undefined) return short;
    const text = this.#numberText();
    if (!/^(?:0|[1-9][0-9]*)$/.test(text))
      throw this.#error(`${text || 'this'} is not a whole number of 0 or more`);
    const value = Number(text);
    if (!Number.isSafeInteger(value)) throw this.#error(`${text} is larger than 2^53 - 1`);
    this.position += text.length;
    return value;
  }

  /** Moves past a number of few digits, as nearly all are; undefined, and nowhere else, for anything that has to be looked at closely. */
  #shortNumber(): number | undefined {
    const bytes = this.#bytes;
    let value = 0;
    let at = this.position;
    for (; at - this.position < SHORT_DIGITS; at++) {
      const digit = (bytes[at] ?? 0) - ZERO;
      if (!(digit >= 0 && digit <= 9)) break;
      value = 10 * value + digit;
    }
    const digits = at - this.position;
    const isPadded = bytes[this.position] === ZERO && digits > 1;
    if (digits === 0 || isPadded || at === bytes.length || isNumberByte(bytes[at])) return undefined;
    this.position = at;
    return value;
  }

  /** Any value, nested at most `depth` deep; of a repeated key the last counts, as for `JSON.parse` and Python. */
  readValue(depth: number): unknown {
    const next = this.peek();
    if (next === OPEN_OBJECT || next === OPEN_LIST) {
      if (depth <= 0) throw this.#error('values are nested too deeply');
      if (next === OPEN_LIST) {
        const list: unknown[] = [];
        this.readList(() => list.push(this.readValue(depth - 1)));
        return list;
      }
      const members = new Map<string, unknown>();
      this.readObject((key) => members.set(key, this.readValue(depth - 1)));
      return Object.fromEntries(members);
    }
    if (next === QUOTE) return this.readString(Number.MAX_SAFE_INTEGER);
    const start = this.position;
    this.skipValue(depth);
    const text = this.#bytes.toString('latin1', start, this.position);
    return Object.hasOwn(PYTHON_NUMBERS, text) ? PYTHON_NUMBERS[text] : (JSON.parse(text) as unknown);
  }

  /** Moves past any value, checking that it is JSON (or one of Python's numbers) and nested at most `depth` deep. */
  skipValue(depth: number): void {
    const next = this.peek();
    if (next === undefined) throw this.#end();
    if (next === OPEN_OBJECT || next === OPEN_LIST) {
      if (depth <= 0) throw this.#error('values are nested too deeply');
      if (next === OPEN_OBJECT) this.readObject(() => this.skipValue(depth - 1));
      else this.readList(() => this.skipValue(depth - 1));
    } else if (next === QUOTE) this.readString(Number.MAX_SAFE_INTEGER);
    else if (next === MINUS && this.acceptWord('-Infinity')) return;
    else if (next === MINUS || (next >= 0x30 && next <= 0x39)) this.#skipNumber();
    else this.#skipWord();
  }

  /** An object; `member` is called with the cursor on each value and must move past it. Keys may repeat. */
  readObject(member: (key: string) => void, maxKeyBytes = Number.MAX_SAFE_INTEGER): void {
    this.expect('{');
    if (this.accept('}')) return;
    do {
      const key = this.readString(maxKeyBytes);
      this.expect(':');
      member(key);
    } while (this.accept(','));
    this.expect('}');
  }

  /** A list; `element` is called with the cursor on each value and must move past it. */
  readList(element: () => void): void {
    this.expect('[');
    if (this.accept(']')) return;
    do element();
    while (this.accept(','));
    this.expect(']');
  }

  #decode(start: number, end: number): string {
    try {
      const text = UTF8.decode(this.#bytes.subarray(start, end));
      return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
    } catch {
      throw this.#error('a string is not valid UTF-8 or has a bad escape');
    }
  }

  #numberText(): string {
    let end = this.position;
    while (isNumberByte(this.#bytes[end])) {
      if (++end - this.position > 64) throw this.#error('a number is longer than 64 characters');
    }
    if (end === this.#bytes.length) throw this.#end();
    return this.#bytes.toString('latin1', this.position, end);
  }

  #skipNumber(): void {
    const text = this.#numberText();
    if (!NUMBER.test(text)) throw this.#error(`${text} is not a number`);
    this.position += text.length;
  }

  #skipWord(): void {
    for (const word of ['true', 'false', 'null', 'NaN', 'Infinity']) {
      const text = this.#bytes.toString('latin1', this.position, this.position + word.length);
      if (text === word) {
        this.position += word.length;
        return;
      }
      if (text.length < word.length && word.startsWith(text)) throw this.#end();
    }
    throw this.#unexpected('a value');
  }

  #unexpected(wanted: string): JsonSyntaxError {
    const byte = this.peek();
    if (byte === undefined) return this.#end();
    const found =
      byte > 0x20 && byte < 0x7f ? `"${String.fromCharCode(byte)}"` : `byte 0x${byte.toString(16)}`;
    return this.#error(`expected ${wanted}, found ${found}`);
  }

  #error(reason: string): JsonSyntaxError {
    return new JsonSyntaxError(reason);
  }

  #end(): JsonEndError {
    return new JsonEndError('the text ends too early');
  }
}

function isNumberByte(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    byte === MINUS ||
    byte === 0x2b ||
    byte === 0x2e ||
    (byte | 0x20) === 0x65
  );
}
