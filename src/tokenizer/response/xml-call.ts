import { type CallReader, openEnd } from './events.ts';
import { typesOf, type ValueTypes, valueAsJson } from './typed-value.ts';

const PARAMETER_END = '</parameter>';
const FUNCTION_END = '</function>';
const MOST_HEAD = 256;

/**
 * Reads a call written as tags, and hands its arguments on as JSON:
 * `<function=name>`, for each argument `<parameter=key>`, its value on lines of its own and `</parameter>`, then `</function>`. Texts are handed
 * on as they come, other values once they are whole.
 * Source: the chat template of Qwen3-Coder.
 */
export class XmlCallReader implements CallReader {
  readonly #close: string;
  readonly #parametersOf: (name: string) => unknown;
  readonly #isKnown: (name: string) => boolean;
  state: CallReader['state'] = 'undecided';
  name = '';
  #place: 'start' | 'between' | 'value' | 'close' = 'start';
  #types: ValueTypes = [];
  #value = '';
  /** Whether the value is a text that has begun to be handed on. */
  #isStreamed = false;
  #count = 0;
  #pieces = '';

  /**
   * @param isKnown whether a function of this name can be called
   * @param parametersOf the JSON schema of its arguments, or undefined
   */
  constructor(close: string, isKnown: (name: string) => boolean, parametersOf: (name: string) => unknown) {
    this.#close = close;
    this.#isKnown = isKnown;
    this.#parametersOf = parametersOf;
  }

  take(): string {
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
    return at;
  }

  #step(text: string, isEnd: boolean): number {
    switch (this.#place) {
      case 'start':
        return this.#start(text, isEnd);
      case 'between':
        return this.#between(text, isEnd);
      case 'value':
        return this.#readValue(text, isEnd);
      case 'close':
        return this.#closing(text, isEnd);
    }
  }

  #start(text: string, isEnd: boolean): number {
    const head = /^\s*<function=([^>\n]+)>/.exec(text);
    if (head) {
      const name = (head[1] as string).trim();
      if (!this.#isKnown(name)) {
        this.state = 'none';
        return 0;
      }
      this.name = name;
      this.state = 'call';
      this.#place = 'between';
      this.#pieces += '{';
      return head[0].length;
    }
    const trimmed = text.trimStart();
    const mayBecome =
      text.length < MOST_HEAD && ('<function='.startsWith(trimmed) || /^<function=[^>\n]*$/.test(trimmed));
    if (isEnd || !mayBecome) this.state = 'none';
    return 0;
  }

  #between(text: string, isEnd: boolean): number {
    const parameter = /^\s*<parameter=([^>\n]+)>\n?/.exec(text);
    // A line break behind the tag may be still to come.
    const isWhole = parameter && (parameter[0].endsWith('\n') || parameter[0].length < text.length || isEnd);
    if (parameter) {
      if (!isWhole) return 0;
      this.#begin((parameter[1] as string).trim());
      return parameter[0].length;
    }
    const end = /^\s*<\/function>/.exec(text);
    if (end) {
      this.#place = 'close';
      this.#pieces += '}';
      return end[0].length;
    }
    const trimmed = text.trimStart();
    if (trimmed.startsWith(this.#close) || isEnd) {
      // Without its </function> a call is still whole where it is closed, and cut short where the text ends.
      if (trimmed.startsWith(this.#close)) this.#pieces += '}';
      this.#place = 'close';
      return 0;
    }
    const mayBecome = ['<parameter=', FUNCTION_END, this.#close].some((tag) => tag.startsWith(trimmed));
    if (mayBecome || /^<parameter=[^>\n]*$/.test(trimmed)) return 0;
    // Words between parameters belong to none: they are left out, up to the next tag.
    const next = text.indexOf('<', text.length - trimmed.length + 1);
    return next === -1 ? text.length : next;
  }

  #begin(key: string): void {
    const schema = this.#parametersOf(this.name) as { properties?: Record<string, unknown> } | undefined;
    const { properties } = schema ?? {};
    const own = properties && Object.hasOwn(properties, key) ? properties[key] : undefined;
    this.#types = typesOf(own, schema);
    this.#pieces += `${this.#count++ > 0 ? ', ' : ''}${JSON.stringify(key)}: `;
    this.#place = 'value';
    this.#value = '';
    this.#isStreamed = this.#types.length === 0 || this.#types.every((type) => type === 'string');
    if (this.#isStreamed) this.#pieces += '"';
  }

  #readValue(text: string, isEnd: boolean): number {
    const end = this.#endOfValue(text, isEnd);
    const value = text.slice(0, end.from);
    // The line break before the closing tag belongs to the tag.
    const own = value.endsWith('\n') ? value.slice(0, -1) : value;
    this.#add(own);
    if (end.to === undefined) return own.length;
    this.#endValue();
    return end.to;
  }

  /**
   * How far the value certainly goes, and where what follows it begins, if it ends. A closing tag that no tag follows is part of the value.
   */
  #endOfValue(text: string, isEnd: boolean): { from: number; to: number | undefined } {
    for (const { index, 0: tag } of text.matchAll(/<\/(?:parameter|function)>/g)) {
      const isOwn = tag === PARAMETER_END;
      const next = isOwn ? ['<parameter=', FUNCTION_END, this.#close] : [this.#close];
      const behind = text.slice(index + tag.length).trimStart();
      if (next.some((one) => behind.startsWith(one)) || (isEnd && isOwn && behind === ''))
        return { from: index, to: isOwn ? index + tag.length : index };
      if (!isEnd && next.some((one) => one.startsWith(behind))) return { from: index, to: undefined };
    }
    // A value that is never closed ends with the text.
    if (isEnd) return { from: text.length, to: text.length };
    return { from: text.length - openEnd(text, [PARAMETER_END, FUNCTION_END]), to: undefined };
  }

  #add(text: string): void {
    if (this.#isStreamed) this.#pieces += JSON.stringify(text).slice(1, -1);
    else this.#value += text;
  }

  #endValue(): void {
    this.#pieces += this.#isStreamed ? '"' : valueAsJson(this.#value, this.#types);
    this.#place = 'between';
  }

  #closing(text: string, isEnd: boolean): number {
    const trimmed = text.trimStart();
    if (trimmed.startsWith(this.#close)) {
      this.state = 'done';
      return text.length - trimmed.length + this.#close.length;
    }
    const isCut = this.#close.startsWith(trimmed);
    if (isEnd || !isCut) this.state = 'done';
    // Where the answer is cut short in the tag, that is no text.
    return isEnd && isCut ? text.length : 0;
  }
}
