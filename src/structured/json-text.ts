import { type CharacterSet, common, others, utf8 } from './characters.ts';
import { byte, choice, literal, type Node, optional, repeat, sequence } from './grammar.ts';

/** Most spaces of an indented line. Without a bound, a model may go on indenting for ever. */
const MOST_INDENTED = 64;
/** Digits that a number of 64 bits keeps. */
const MOST_DIGITS = 15;

/** White space between two parts of JSON: none, a space, or a new line with its indentation. */
export const SPACE: Node = choice(
  optional(byte([0x20, 0x20])),
  sequence(byte([0x0a, 0x0a]), repeat(byte([0x20, 0x20], [0x09, 0x09]), 0, MOST_INDENTED)),
);

const ESCAPED: CharacterSet = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const PLAIN = others(ESCAPED);
const plain = utf8(PLAIN);
const hex = byte([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
const notD = byte([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]);
const d = byte([0x44, 0x44], [0x64, 0x64]);
const lowDigit = byte([0x30, 0x37]);
/** `\uXXXX`, of surrogates only whole pairs. */
const unicodeEscape = sequence(
  literal('\\u'),
  choice(
    sequence(notD, hex, hex, hex),
    sequence(d, lowDigit, hex, hex),
    sequence(
      d,
      byte([0x38, 0x39], [0x41, 0x42], [0x61, 0x62]),
      hex,
      hex,
      literal('\\u'),
      d,
      byte([0x43, 0x46], [0x63, 0x66]),
      hex,
      hex,
    ),
  ),
);
const shortEscape = sequence(
  literal('\\'),
  byte(...[...'"\\/bfnrt'].map((one) => [one.charCodeAt(0), one.charCodeAt(0)] as const)),
);

/** One character of a JSON string, in any of its spellings. */
export const STRING_CHARACTER: Node = choice(plain, shortEscape, unicodeEscape);

/** One character of a set as it stands in a JSON string: escaped only where it must be, in one spelling. */
export function stringCharacter(set: CharacterSet): Node {
  const escaped = common(set, ESCAPED).flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) =>
      literal(JSON.stringify(String.fromCharCode(first + i)).slice(1, -1)),
    ),
  );
  return choice(utf8(common(set, PLAIN)), ...escaped);
}

/** A JSON string whose content is `content`. */
export function quoted(content: Node): Node {
  return sequence(literal('"'), content, literal('"'));
}

/** Any JSON string. */
export const STRING: Node = quoted(repeat(STRING_CHARACTER, 0));

/** A JSON string that is none of `names`, without escapes, so that no other spelling of one slips through. */
export function stringOtherThan(names: readonly string[]): Node {
  return quoted(anythingBut(names.map((name) => [...name])));
}

function anythingBut(names: readonly (readonly string[])[]): Node {
  if (names.length === 0) return repeat(plain, 0);
  const byFirst = new Map<string, (readonly string[])[]>();
  for (const [first, ...rest] of names)
    if (first !== undefined) byFirst.set(first, [...(byFirst.get(first) ?? []), rest]);
  const firsts = [...byFirst.keys()].map((one) => one.codePointAt(0) as number);
  const elsewhere = common(
    PLAIN,
    others(firsts.map((one) => [one, one] as const).sort((a, b) => a[0] - b[0])),
  );
  const ways = [
    sequence(utf8(elsewhere), repeat(plain, 0)),
    ...[...byFirst]
      .filter(
        ([first]) =>
          common(PLAIN, [[first.codePointAt(0) as number, first.codePointAt(0) as number]]).length > 0,
      )
      .map(([first, rests]) => sequence(literal(first), anythingBut(rests))),
  ];
  // The name itself ends here, unless the empty text is no name.
  return names.some((name) => name.length === 0) ? choice(...ways) : optional(choice(...ways));
}

export const DIGIT: Node = byte([0x30, 0x39]);
const nonZero = byte([0x31, 0x39]);
const zero = literal('0');
/** A whole number from 0, without leading zeros. */
const WHOLE: Node = choice(zero, sequence(nonZero, repeat(DIGIT, 0, MOST_DIGITS - 1)));

export const INTEGER: Node = choice(
  WHOLE,
  sequence(literal('-'), nonZero, repeat(DIGIT, 0, MOST_DIGITS - 1)),
);

/** Any number that is finite once read. */
export const NUMBER: Node = sequence(
  optional(literal('-')),
  WHOLE,
  optional(sequence(literal('.'), repeat(DIGIT, 1, MOST_DIGITS))),
  optional(
    sequence(
      byte([0x45, 0x45], [0x65, 0x65]),
      optional(byte([0x2b, 0x2b], [0x2d, 0x2d])),
      repeat(DIGIT, 1, 2),
    ),
  ),
);

export const BOOLEAN: Node = choice(literal('true'), literal('false'));
export const NULL: Node = literal('null');

/** Parts with commas between them, and brackets round them. */
export function bracketed(open: string, content: Node, close: string): Node {
  return sequence(literal(open), SPACE, content, literal(close));
}

export const COMMA: Node = sequence(literal(','), SPACE);
export const COLON: Node = sequence(literal(':'), SPACE);

/** Any JSON object, or any JSON value. */
export const { OBJECT, VALUE } = anyJson();

function anyJson(): { OBJECT: Node; VALUE: Node } {
  const value: Node = { kind: 'reference', target: undefined };
  const member = sequence(STRING, SPACE, COLON, value, SPACE);
  const item = sequence(value, SPACE);
  const list = (one: Node) => optional(sequence(one, repeat(sequence(COMMA, one), 0)));
  const object = bracketed('{', list(member), '}');
  value.target = choice(STRING, NUMBER, object, bracketed('[', list(item), ']'), BOOLEAN, NULL);
  return { OBJECT: object, VALUE: value };
}

/** A value as `JSON.stringify` writes it. */
export function valueLiteral(value: unknown): Node {
  return literal(JSON.stringify(value));
}
