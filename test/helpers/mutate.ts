/** Random changes to texts that strangers write, for tests of whatever reads them. */

export type Random = () => number;
/** A whole number in [0, limit). */
export const below = (random: Random, limit: number) => Math.floor(random() * limit);
export const pick = <T>(random: Random, items: readonly T[]): T => items[below(random, items.length)] as T;

/** Replacements that have hurt parsers before. */
const NUMBERS = [
  '0',
  '-1',
  '1',
  '2',
  '3',
  '1.5',
  '1e2',
  '1e999',
  '4294967296',
  '9007199254740991',
  '9007199254740993',
  '99999999999999999999',
  '""',
  'null',
  '[]',
  '{}',
  'true',
];
const SNIPPETS = [
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '\\u0000',
  '\\ud800',
  '\u0000',
  '\u2028',
  '../',
  '/',
  '__proto__',
  '"a":1,',
  'é',
  '[[[[',
  ' ',
];

/** Changes a JSON text in one of many ways; some leave it valid. */
export function mutateText(random: Random, text: string): string {
  const at = below(random, text.length + 1);
  switch (below(random, 9)) {
    case 0:
      return replaceNth(random, text, /-?\d+(\.\d+)?/g, () => pick(random, NUMBERS));
    case 1:
      return replaceNth(random, text, /\d+/g, (number) =>
        String(Number(number) + pick(random, [-8, -1, 1, 8])),
      );
    case 2:
      return text.slice(0, at) + pick(random, SNIPPETS) + text.slice(at);
    case 3:
      return text.slice(0, at) + text.slice(at + 1 + below(random, 8));
    case 4:
      return text.slice(0, at);
    case 5:
      return replaceNth(random, text, /"[^"]*"/g, () =>
        pick(random, ['"a"', '"b"', '"F64"', '"U8"', '"x.safetensors"', '"../x.safetensors"', '""']),
      );
    case 6:
      // One member again, so that a key is there twice.
      return replaceNth(
        random,
        text,
        /"[^"]*":("[^"]*"|\d+|\[[^\]]*\]|\{[^{}]*\})/g,
        (member) => `${member},${member}`,
      );
    case 7:
      return replaceNth(random, text, /[a-z]/g, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);
    default:
      return text.slice(0, at) + String.fromCharCode(below(random, 256)) + text.slice(at + 1);
  }
}

function replaceNth(
  random: Random,
  text: string,
  pattern: RegExp,
  change: (found: string) => string,
): string {
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return text;
  const { 0: match, index } = pick(random, found);
  return text.slice(0, index) + change(match) + text.slice(index + match.length);
}
