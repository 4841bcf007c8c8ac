import { kindOf, LETTER, LINE_END, MARK, NUMBER, OTHER, SPACE } from './characters.ts';

/** How one of the known patterns cuts. */
interface Rules {
  /** Whether combining marks belong to words, as letters do. */
  readonly marks: boolean;
  /** Digits in one piece. */
  readonly digits: number;
}

const pattern = (letters: string, digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?${letters}+|\\p{N}${digits}| ` +
  `?[^\\s${letters.replace(/[[\]]/g, '')}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** The pattern of Qwen2 and Qwen3. */
export const QWEN2_PATTERN = pattern('\\p{L}', '');

const KNOWN: ReadonlyMap<string, Rules> = new Map([
  [QWEN2_PATTERN, { marks: false, digits: 1 }],
  // Qwen3.5
  [pattern('[\\p{L}\\p{M}]', ''), { marks: true, digits: 1 }],
  // Llama 3 and others
  [pattern('\\p{L}', '{1,3}'), { marks: false, digits: 3 }],
]);

/** Finds the end of the piece that begins at a position; every position begins one. */
export type WordScanner = (text: string, from: number) => number;

/**
 * A scanner that cuts as one of Qwen's patterns does, in one pass over the text: each piece is looked at at most twice.
 * Undefined for other patterns, which a regular expression has to follow.
 */
export function wordScanner(source: string): WordScanner | undefined {
  const rules = KNOWN.get(source);
  return rules && ((text, from) => scan(text, from, rules));
}

function scan(text: string, from: number, { marks, digits }: Rules): number {
  const code = text.codePointAt(from) as number;
  const kind = kindOf(code);
  const after = from + (code > 0xffff ? 2 : 1);
  const isLetter = (at: number) => {
    const next = at < text.length ? kindOf(text.codePointAt(at) as number) : OTHER;
    return next === LETTER || (marks && next === MARK);
  };
  if (code === APOSTROPHE) {
    const length = contraction(text, from + 1);
    if (length > 0) return from + 1 + length;
  }
  if (kind === LETTER || (marks && kind === MARK)) return runOf(text, after, LETTER, marks ? MARK : LETTER);
  if (kind !== NUMBER && kind !== LINE_END && isLetter(after)) {
    return runOf(text, after, LETTER, marks ? MARK : LETTER);
  }
  if (kind === NUMBER) return runOf(text, after, NUMBER, NUMBER, digits - 1);
  const start = code === BLANK ? after : from;
  const end = runOf(text, start, OTHER, marks ? OTHER : MARK);
  if (end > start) return runOf(text, end, LINE_END, LINE_END);
  return whiteSpace(text, from);
}

/** Up to the last line end of the white space, else all but the last, which belongs to the word behind it. */
function whiteSpace(text: string, from: number): number {
  const end = runOf(text, from, SPACE, LINE_END);
  for (let at = end - 1; at >= from; at--) {
    if (kindOf(text.charCodeAt(at)) === LINE_END) return at + 1;
  }
  return end === text.length || end - from === 1 ? end : end - 1;
}

/** The end of a run of characters of one kind or another, of `most` characters at most. */
function runOf(
  text: string,
  from: number,
  kind: number,
  other: number,
  most = Number.POSITIVE_INFINITY,
): number {
  let at = from;
  for (let count = 0; at < text.length && count < most; count++) {
    let code = text.charCodeAt(at);
    if (code >= 0xd800 && code < 0xdc00) code = text.codePointAt(at) as number;
    const next = kindOf(code);
    if (next !== kind && next !== other) break;
    at += code > 0xffff ? 2 : 1;
  }
  return at;
}

const APOSTROPHE = 0x27;
const BLANK = 0x20;
const CONTRACTION = /(?:[stmdSTMD\u017f]|[rR][eE]|[vV][eE]|[lL][lL])/y;

/** Length of `s`, `t`, `re`, `ve`, `m`, `ll` or `d` of any case; the long s is an s. */
function contraction(text: string, at: number): number {
  CONTRACTION.lastIndex = at;
  return CONTRACTION.test(text) ? CONTRACTION.lastIndex - at : 0;
}
