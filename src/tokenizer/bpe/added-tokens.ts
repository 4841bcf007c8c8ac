/** A token that is recognised in text as a whole, before any splitting. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  /** Looked for in the normalized text. */
  readonly normalized: boolean;
  /** Not inside a word. */
  readonly single_word: boolean;
  /** Takes the white space before it. */
  readonly lstrip: boolean;
  /** Takes the white space behind it. */
  readonly rstrip: boolean;
}

/** Part of a text: an added token, or what stands between. */
export type Section = string | AddedToken;

interface Node {
  readonly next: Map<string, Node>;
  token?: AddedToken;
}

const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const SPACE = /\p{White_Space}/u;

/** Places looked at between two chances of the caller to stop. */
const LOOKS = 1_024;

/**
 * Finds added tokens in text: the leftmost first, of several the longest.
 * Source: Hugging Face tokenizers, `tokenizer/added_vocabulary.rs`, `find_matches`.
 */
export class AddedTokenFinder {
  readonly #root: Node = { next: new Map() };
  /** Characters that a token begins with. */
  readonly #starts: RegExp | undefined;

  /** @param tokens with the text to look for, which normalization may have changed */
  constructor(tokens: Iterable<readonly [text: string, token: AddedToken]>) {
    for (const [text, token] of tokens) {
      let node = this.#root;
      for (const unit of text.split('')) {
        let next = node.next.get(unit);
        if (next === undefined) {
          next = { next: new Map() };
          node.next.set(unit, next);
        }
        node = next;
      }
      if (text !== '') node.token = token;
    }
    const starts = [...this.#root.next.keys()].map(
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
    this.#starts = starts.length > 0 ? new RegExp(`[${starts.join('')}]`, 'g') : undefined;
  }

  /**
   * The sections of a text; undefined between them is a chance of the caller to stop.
   *
   * @param skipSpecial leaves special tokens in the text as they are written
   */
  *sections(text: string, skipSpecial: boolean): Generator<Section | undefined, void, undefined> {
    let from = 0;
    let looks = 0;
    for (let at = this.#nextStart(text, 0); at !== -1; ) {
      if (++looks % LOOKS === 0) yield undefined;
      const token = this.#longest(text, at);
      const end = at + (token?.length ?? 1);
      if (token === undefined || !applies(token.token, text, at, end, skipSpecial)) {
        at = this.#nextStart(text, end);
        continue;
      }
      const start = token.token.lstrip ? Math.max(from, spaceBefore(text, at)) : at;
      if (start > from) yield text.slice(from, start);
      yield token.token;
      from = token.token.rstrip ? spaceAfter(text, end) : end;
      at = this.#nextStart(text, Math.max(end, from));
    }
    if (from < text.length) yield text.slice(from);
  }

  #nextStart(text: string, from: number): number {
    if (this.#starts === undefined) return -1;
    this.#starts.lastIndex = from;
    return this.#starts.exec(text)?.index ?? -1;
  }

  #longest(text: string, at: number): { token: AddedToken; length: number } | undefined {
    let found: { token: AddedToken; length: number } | undefined;
    let node: Node | undefined = this.#root;
    for (let i = at; node !== undefined; i++) {
      if (node.token !== undefined) found = { token: node.token, length: i - at };
      node = i < text.length ? node.next.get(text[i] as string) : undefined;
    }
    return found;
  }
}

function applies(token: AddedToken, text: string, start: number, end: number, skipSpecial: boolean): boolean {
  if (skipSpecial && token.special) return false;
  if (!token.single_word) return true;
  return !WORD.test(characterBefore(text, start)) && !WORD.test(characterAt(text, end));
}

function characterAt(text: string, at: number): string {
  return at < text.length ? String.fromCodePoint(text.codePointAt(at) as number) : '';
}

function characterBefore(text: string, at: number): string {
  const pair = at >= 2 ? (text.codePointAt(at - 2) as number) : 0;
  return pair > 0xffff ? String.fromCodePoint(pair) : (text[at - 1] ?? '');
}

function spaceBefore(text: string, at: number): number {
  let start = at;
  while (start > 0 && SPACE.test(text[start - 1] as string)) start--;
  return start;
}

function spaceAfter(text: string, at: number): number {
  let end = at;
  while (end < text.length && SPACE.test(text[end] as string)) end++;
  return end;
}
