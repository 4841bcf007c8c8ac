import type { CallReader } from './events.ts';

/** Where a reader stands in `{"name": …, "arguments": …}`. */
type Place = 'start' | 'key' | 'name' | 'arguments' | 'other' | 'comma' | 'close' | 'broken';

const HEAD = /^\s*\{\s*"(?:name|arguments)"\s*:/;
const MOST_HEAD = 256;

/**
 * Reads a call written as JSON, `{"name": "f", "arguments": {…}}`, and hands its arguments on as they come. What is no JSON any more is read up
 * to the closing tag, and goes to the arguments as it stands.
 * Source: the chat template of Qwen3.
 */
export class JsonCallReader implements CallReader {
  readonly #close: string;
  readonly #isKnown: (name: string) => boolean;
  state: CallReader['state'] = 'undecided';
  name = '';
  #place: Place = 'start';
  #key = '';
  #value = new ValueScanner();
  #pieces = '';
  /** Arguments written as a text of JSON, which are handed on as what they hold. */
  #quoted = '';
  #isQuoted = false;
  #hasArguments = false;

  /** @param isKnown whether a function of this name can be called */
  constructor(close: string, isKnown: (name: string) => boolean) {
    this.#close = close;
    this.#isKnown = isKnown;
  }

  take(): string {
    if (this.name === '') return '';
    const pieces = this.#pieces;
    this.#pieces = '';
    return pieces;
  }

  read(text: string, isEnd: boolean): number {
    let at = 0;
    while (this.state === 'undecided' || this.state === 'call') {
      const place = this.#place;
      const used = this.#step(text.slice(at), isEnd);
      at += used;
      if (used === 0 && this.#place === place) break;
    }
    if (isEnd && this.#place === 'arguments') this.#break();
    return at;
  }

  #step(text: string, isEnd: boolean): number {
    switch (this.#place) {
      case 'start':
        return this.#start(text, isEnd);
      case 'broken':
        return this.#untilClosed(text, isEnd);
      case 'close':
        return this.#closing(text, isEnd);
      case 'key':
        return this.#readKey(text);
      case 'comma':
        return this.#readComma(text);
      default:
        return this.#readValue(text);
    }
  }

  /** The opening brace, once what follows it shows that this is a call. */
  #start(text: string, isEnd: boolean): number {
    if (HEAD.test(text)) {
      this.#place = 'key';
      return text.indexOf('{') + 1;
    }
    const mayBecome = text.length < MOST_HEAD && /^\s*(?:\{\s*(?:"[a-z]*"?\s*)?)?$/.test(text);
    if (isEnd || !mayBecome) this.state = 'none';
    return 0;
  }

  #readKey(text: string): number {
    const match = /^\s*"((?:[^"\\]|\\.)*)"\s*:\s*(?=\S)/.exec(text);
    if (match) {
      this.#key = match[1] as string;
      this.#place = this.#key === 'name' ? 'name' : this.#key === 'arguments' ? 'arguments' : 'other';
      this.#value = new ValueScanner();
      return match[0].length;
    }
    return /^\s*(?:"(?:[^"\\]|\\.)*(?:\\|"\s*:?\s*)?)?$/.test(text) ? 0 : this.#break();
  }

  #readValue(text: string): number {
    const used = this.#value.scan(text);
    const piece = text.slice(0, used);
    if (this.#place === 'arguments') this.#addArguments(piece);
    if (this.#place === 'name') this.#quoted += piece;
    if (this.#value.isBroken) return used + this.#break();
    if (!this.#value.isComplete) return used;
    if (this.#place === 'name') this.#setName();
    else if (this.#place === 'arguments') this.#endArguments();
    if (this.state !== 'none') this.#place = 'comma';
    return used;
  }

  #setName(): void {
    const name = parsed(this.#quoted);
    this.#quoted = '';
    if (typeof name !== 'string' || name === '' || !this.#isKnown(name)) {
      this.state = 'none';
      return;
    }
    this.name = name;
    this.state = 'call';
  }

  #addArguments(piece: string): void {
    if (!this.#hasArguments) this.#isQuoted = piece.startsWith('"');
    this.#hasArguments ||= piece !== '';
    if (this.#isQuoted) this.#quoted += piece;
    else this.#pieces += piece;
  }

  #endArguments(): void {
    if (!this.#isQuoted) return;
    const text = parsed(this.#quoted);
    const isObject = typeof text === 'string' && typeof parsed(text) === 'object';
    this.#pieces += isObject ? text : this.#quoted;
    this.#quoted = '';
    this.#isQuoted = false;
  }

  #readComma(text: string): number {
    const match = /^\s*([,}])/.exec(text);
    if (match) {
      this.#place = match[1] === ',' ? 'key' : 'close';
      return match[0].length;
    }
    return /^\s*$/.test(text) ? 0 : this.#break();
  }

  #closing(text: string, isEnd: boolean): number {
    // A call without a name is none.
    if (this.name === '') {
      this.state = 'none';
      return 0;
    }
    const trimmed = text.trimStart();
    if (trimmed.startsWith(this.#close)) return this.#done(text.length - trimmed.length + this.#close.length);
    // Where the answer is cut short in the tag, the call is whole, and the tag no text.
    if (this.#close.startsWith(trimmed)) return isEnd ? this.#done(text.length) : 0;
    // Text behind a whole call that is not closed is text.
    return this.#done(0);
  }

  /** No JSON from here on. */
  #break(): number {
    if (this.state === 'undecided') this.state = 'none';
    else {
      this.#pieces += this.#quoted;
      this.#quoted = '';
      this.#place = 'broken';
    }
    return 0;
  }

  #untilClosed(text: string, isEnd: boolean): number {
    const end = text.indexOf(this.#close);
    if (end === -1 && !isEnd) {
      const keep = this.#close.length - 1;
      const used = Math.max(0, text.length - keep);
      this.#pieces += text.slice(0, used);
      return used;
    }
    this.#pieces += end === -1 ? text : text.slice(0, end);
    return this.#done(end === -1 ? text.length : end + this.#close.length);
  }

  #done(used: number): number {
    this.state = 'done';
    return used;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Follows one JSON value, character by character, to its end. */
class ValueScanner {
  isComplete = false;
  isBroken = false;
  #open: string[] = [];
  #inString = false;
  #isEscaped = false;
  #inScalar = false;

  /** @returns how many characters belong to the value */
  scan(text: string): number {
    for (let i = 0; i < text.length; i++) {
      const character = text[i] as string;
      if (this.#inString) this.#inText(character);
      else if (this.#inScalar && /[\s,}\]]/.test(character)) {
        this.#inScalar = false;
        if (this.#open.length === 0) {
          this.isComplete = true;
          return i;
        }
        this.#structure(character);
      } else this.#structure(character);
      if (this.isBroken) return i;
      if (this.isComplete) return i + 1;
    }
    return text.length;
  }

  #inText(character: string): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === '\\') this.#isEscaped = true;
    else if (character === '"') {
      this.#inString = false;
      this.isComplete = this.#open.length === 0;
    }
  }

  #structure(character: string): void {
    if (character === '"') this.#inString = true;
    else if (character === '{' || character === '[') this.#open.push(character === '{' ? '}' : ']');
    else if (character === '}' || character === ']') {
      this.isBroken = this.#open.pop() !== character;
      this.isComplete = !this.isBroken && this.#open.length === 0;
    } else if (/[-+.\w]/.test(character)) this.#inScalar = true;
    else if (!/[\s,:]/.test(character)) this.isBroken = true;
  }
}
