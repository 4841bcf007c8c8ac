import { byte, choice, type Node, sequence } from './grammar.ts';

/** Code points, first and last of each range, ascending and apart. */
export type CharacterSet = readonly (readonly [number, number])[];

const LAST = 0x10ffff;
/** Every character that UTF-8 can write: all code points but surrogates. */
export const ANY: CharacterSet = [
  [0, 0xd7ff],
  [0xe000, LAST],
];

/** The set in order: ascending, ranges that touch joined, surrogates left out. */
export function characterSet(ranges: CharacterSet): CharacterSet {
  const sorted = ranges.filter(([first, last]) => first <= last).sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [first, last] of sorted) {
    const before = joined.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return common(joined, ANY);
}

/** What is in both of two sets. */
export function common(a: CharacterSet, b: CharacterSet): CharacterSet {
  const both: [number, number][] = [];
  for (const [first, last] of a)
    for (const [from, to] of b) {
      const [low, high] = [Math.max(first, from), Math.min(last, to)];
      if (low <= high) both.push([low, high]);
    }
  return both;
}

/** All characters that are not in a set. */
export function others(set: CharacterSet): CharacterSet {
  const gaps: [number, number][] = [];
  let from = 0;
  for (const [first, last] of characterSet(set)) {
    if (first > from) gaps.push([from, first - 1]);
    from = last + 1;
  }
  if (from <= LAST) gaps.push([from, LAST]);
  return common(gaps, ANY);
}

/** Last code point of one, two, three and four bytes. */
const LENGTHS = [0x7f, 0x7ff, 0xffff, LAST];

/** One character of a set in UTF-8. */
export function utf8(set: CharacterSet): Node {
  const nodes: Node[] = [];
  const ofOneByte: (readonly [number, number])[] = [];
  for (const [first, last] of set) {
    let from = first;
    for (const end of LENGTHS) {
      if (from > end || from > last) continue;
      const to = Math.min(last, end);
      if (end === 0x7f) ofOneByte.push([from, to]);
      else addRange(encode(from), encode(to), nodes);
      from = to + 1;
    }
  }
  return choice(...(ofOneByte.length > 0 ? [byte(...ofOneByte)] : []), ...nodes);
}

function encode(codePoint: number): number[] {
  return [...Buffer.from(String.fromCodePoint(codePoint), 'utf8')];
}

/** Adds nodes for all characters between two that take equally many bytes. */
function addRange(from: readonly number[], to: readonly number[], nodes: Node[]): void {
  const [first = 0, ...fromRest] = from;
  const [last = 0, ...toRest] = to;
  if (fromRest.length === 0) {
    nodes.push(byte([first, last]));
    return;
  }
  if (first === last) {
    const rest: Node[] = [];
    addRange(fromRest, toRest, rest);
    nodes.push(sequence(byte([first, first]), choice(...rest)));
    return;
  }
  const lowest = fromRest.map(() => 0x80);
  const highest = toRest.map(() => 0xbf);
  const isWhole = (bytes: readonly number[], bound: readonly number[]) =>
    bytes.every((one, i) => one === bound[i]);
  let [low, high] = [first, last];
  if (!isWhole(fromRest, lowest)) {
    addRange(from, [first, ...highest], nodes);
    low++;
  }
  if (!isWhole(toRest, highest)) high--;
  if (low <= high) nodes.push(sequence(byte([low, high]), ...lowest.map(() => byte([0x80, 0xbf]))));
  if (high < last) addRange([last, ...lowest], to, nodes);
}
