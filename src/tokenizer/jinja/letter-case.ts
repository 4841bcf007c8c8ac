// Letters with case, as Python's unicode tables see them (the titlecase of ǆ is its own character).
const CASED = /[\p{Lowercase}\p{Uppercase}\p{Lt}]/u;
const SIGMA = 'Σ';

export const upper = (text: string): string => text.toUpperCase();
export const lower = (text: string): string => text.toLowerCase();

/** `str.title`: the first letter of each run of letters large, the others small. */
export function title(text: string): string {
  let result = '';
  let inWord = false;
  for (const character of text) {
    result += inWord ? lowerInWord(character) : toTitle(character);
    inWord = CASED.test(character);
  }
  return result;
}

/** `str.capitalize` */
export function capitalize(text: string): string {
  const [first = ''] = text;
  return toTitle(first) + text.slice(first.length).toLowerCase();
}

export function swapCase(text: string): string {
  let result = '';
  for (const character of text) {
    const isUpper = character !== character.toLowerCase();
    result += isUpper ? character.toLowerCase() : character.toUpperCase();
  }
  return result;
}

/** `str.istitle` */
export function isTitle(text: string): boolean {
  let inWord = false;
  let seen = false;
  for (const character of text) {
    const isUpper = /[\p{Lu}\p{Lt}]/u.test(character);
    const isLower = /\p{Ll}/u.test(character);
    if (isUpper ? inWord : isLower && !inWord) return false;
    inWord = isUpper || isLower;
    seen ||= inWord;
  }
  return seen;
}

function lowerInWord(character: string): string {
  return character === SIGMA ? 'σ' : character.toLowerCase();
}

// Digraphs have a titlecase of their own; other characters that grow (ß → SS) keep only their first letter large.
const DIGRAPHS: ReadonlyMap<string, string> = new Map(
  [
    ['Ǆǅǆ', 'ǅ'],
    ['Ǉǈǉ', 'ǈ'],
    ['Ǌǋǌ', 'ǋ'],
    ['Ǳǲǳ', 'ǲ'],
  ].flatMap(([letters, titled]) =>
    [...(letters as string)].map((letter) => [letter, titled as string] as const),
  ),
);

function toTitle(character: string): string {
  const digraph = DIGRAPHS.get(character);
  if (digraph !== undefined) return digraph;
  const large = [...character.toUpperCase()];
  return (large[0] ?? '') + large.slice(1).join('').toLowerCase();
}
