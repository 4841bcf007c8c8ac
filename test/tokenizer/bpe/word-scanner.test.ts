import { toRegExp } from 'oniguruma-to-es';
import { expect, it } from 'vitest';
import { wordScanner } from '../../../src/tokenizer/bpe/word-scanner.ts';

const pattern = (letters: string, others: string, digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?${letters}+|\\p{N}${digits}| ?[^\\s${others}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const PATTERNS = {
  qwen2: pattern('\\p{L}', '\\p{L}', ''),
  'qwen3.5': pattern('[\\p{L}\\p{M}]', '\\p{L}\\p{M}', ''),
  llama3: pattern('\\p{L}', '\\p{L}', '{1,3}'),
};
const CHARACTERS = [
  ...[
    "'",
    "'",
    's',
    'S',
    'ſ',
    't',
    're',
    'VE',
    'll',
    'd',
    'm',
    'a',
    'Z',
    'é',
    '中',
    '𝒳',
    '\u0301',
    '\u{1e94a}',
  ],
  ...['0', '12', '½', 'Ⅷ', ' ', ' ', '  ', '\t', '\n', '\r', '\r\n', '\u0085', '\u00a0', '\u2003', '\ufeff'],
  ...['.', ',', '!', '<|', '_', '😀', '\u200d', '\ud800', '\0'],
];

it.each(Object.entries(PATTERNS))('the scanner of %s cuts as the expression does', (_, source) => {
  const scanner = wordScanner(source) as (text: string, from: number) => number;
  expect(scanner).toBeDefined();
  const expression = toRegExp(source, { global: true, target: 'ES2024' });
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 1;
    return seed % below;
  };
  for (let round = 0; round < 4_000; round++) {
    const text = Array.from({ length: 1 + random(12) }, () => CHARACTERS[random(CHARACTERS.length)]).join('');
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const end = scanner(text, at);
      pieces.push(text.slice(at, end));
      at = end;
    }
    expect(pieces, JSON.stringify(text)).toEqual(text.match(expression));
  }
});

it('knows no other pattern', () => {
  expect(wordScanner('\\p{L}+')).toBeUndefined();
});
