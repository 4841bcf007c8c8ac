import type { Budget } from './budget.ts';
import { SPACE } from './values.ts';

const WHITE = new RegExp(`[${SPACE}]`);
const LINE_BREAKS = '\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029';
const LINE_END = new RegExp(`\\r\\n|[${LINE_BREAKS}]`, 'g');

/** Takes characters of `chars` (white space, where not given) from the ends of a text. */
export function stripEnds(text: string, chars: string | undefined, left: boolean, right: boolean): string {
  const set = chars === undefined ? undefined : new Set(chars);
  const goes = (character: string) => (set === undefined ? WHITE.test(character) : set.has(character));
  let start = 0;
  let end = text.length;
  while (left && start < end) {
    const character = String.fromCodePoint(text.codePointAt(start) as number);
    if (!goes(character)) break;
    start += character.length;
  }
  while (right && end > start) {
    const pair = end - 2 >= start ? (text.codePointAt(end - 2) as number) : 0;
    const character = pair > 0xffff ? String.fromCodePoint(pair) : (text[end - 1] as string);
    if (!goes(character)) break;
    end -= character.length;
  }
  return text.slice(start, end);
}

/** Cuts a text at a separator, `times` times at most. */
export function splitOn(
  text: string,
  sep: string,
  times: number,
  fromRight: boolean,
  budget: Budget,
): string[] {
  const parts: string[] = [];
  let [start, end] = [0, text.length];
  while (parts.length < times) {
    const at = fromRight ? lastIndexBefore(text, sep, end) : text.indexOf(sep, start);
    if (at === -1) break;
    parts.push(fromRight ? text.slice(at + sep.length, end) : text.slice(start, at));
    if (fromRight) end = at;
    else start = at + sep.length;
    if (parts.length % 1024 === 0) budget.items(1024);
  }
  parts.push(text.slice(start, end));
  budget.items(parts.length % 1024);
  return fromRight ? parts.reverse() : parts;
}

function lastIndexBefore(text: string, sep: string, end: number): number {
  return end < sep.length ? -1 : text.lastIndexOf(sep, end - sep.length);
}

/** Cuts a text at runs of white space, `times` times at most; white space at the ends makes no parts. */
export function splitOnSpace(text: string, times: number, fromRight: boolean, budget: Budget): string[] {
  const parts: string[] = [];
  let rest = stripEnds(text, undefined, !fromRight, fromRight);
  while (parts.length < times && rest !== '') {
    const gap = fromRight ? lastSpace(rest) : firstSpace(rest);
    if (gap === -1) break;
    parts.push(fromRight ? rest.slice(gap + 1) : rest.slice(0, gap));
    rest = fromRight
      ? stripEnds(rest.slice(0, gap), undefined, false, true)
      : stripEnds(rest.slice(gap), undefined, true, false);
    budget.items(1);
  }
  if (rest !== '') parts.push(rest);
  return fromRight ? parts.reverse() : parts;
}

function firstSpace(text: string): number {
  return text.search(WHITE);
}

function lastSpace(text: string): number {
  let at = text.length - 1;
  while (at >= 0 && !WHITE.test(text[at] as string)) at--;
  return at;
}

/** `str.splitlines` */
export function splitLines(text: string, keepEnds: boolean, budget: Budget): string[] {
  const lines: string[] = [];
  let start = 0;
  for (const end of text.matchAll(LINE_END)) {
    const after = end.index + end[0].length;
    lines.push(text.slice(start, keepEnds ? after : end.index));
    start = after;
    budget.items(1);
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}
