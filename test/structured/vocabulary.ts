import type { Random } from '../helpers/random.ts';

/** Every byte, and random pieces of JSON: a vocabulary whose tokens share beginnings and end in the midst of characters. */
export function vocabulary(random: Random): (Uint8Array | undefined)[] {
  const pieces = [
    '"',
    '": ',
    ', "',
    '{"',
    '"}',
    'a',
    'ab',
    'name',
    'ü',
    '😀',
    '12',
    '-0.',
    '\n  ',
    'true',
    'null',
    '\\u00',
    ']',
  ];
  const tokens: (Uint8Array | undefined)[] = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  for (let i = 0; i < 1500; i++) {
    const text = Array.from(
      { length: 1 + Math.floor(random.next() * 4) },
      () => pieces[Math.floor(random.next() * pieces.length)],
    ).join('');
    const bytes = Buffer.from(text);
    tokens.push(bytes.subarray(0, 1 + Math.floor(random.next() * bytes.length)));
  }
  // No text: an id that no token has, one of no bytes, and the end of a turn.
  tokens.push(undefined, new Uint8Array(0), undefined);
  return tokens;
}
