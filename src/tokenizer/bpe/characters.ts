/** What a character is to the patterns that cut text into words. */
export const OTHER = 0;
export const LETTER = 1;
export const NUMBER = 2;
export const MARK = 3;
export const SPACE = 4;
export const LINE_END = 5;

const pages = new Map<number, Uint8Array>();
const CHECKS: readonly (readonly [RegExp, number])[] = [
  [/^[\r\n]/, LINE_END],
  [/^\p{L}/u, LETTER],
  [/^\p{N}/u, NUMBER],
  [/^\p{M}/u, MARK],
  // White space as Oniguruma sees it: with U+0085, without U+FEFF.
  [/^\p{White_Space}/u, SPACE],
];

/** The kind of a code point; tables are made for a page of 256 when it is first asked for. */
export function kindOf(code: number): number {
  const number = code >> 8;
  let page = pages.get(number);
  if (page === undefined) {
    page = Uint8Array.from({ length: 256 }, (_, i) => {
      const character = String.fromCodePoint(number * 256 + i);
      return CHECKS.find(([pattern]) => pattern.test(character))?.[1] ?? OTHER;
    });
    pages.set(number, page);
  }
  return page[code & 255] as number;
}
