import { expect, test } from 'vitest';
import { RandomIds } from '../../src/bench/random-ids.ts';
import { median, spread } from '../../src/bench/statistics.ts';
import { digits, percent, scaled, textTable } from '../../src/bench/table.ts';

test('the median is the middle, or the mean of the two in the middle, whatever the order', () => {
  expect(median([3])).toBe(3);
  expect(median([9, 1, 10])).toBe(9);
  expect(median([4, 1, 10, 2])).toBe(3);
});

test('a spread names median, least and most, and leaves its input alone', () => {
  const values = [5, 1, 30];
  expect(spread(values)).toEqual({ median: 5, min: 1, max: 30 });
  expect(values).toEqual([5, 1, 30]);
});

test('random ids repeat under one seed, stay in the vocabulary and spread over all of it', () => {
  const ids = new RandomIds(100, 7).take(10_000);
  expect(new RandomIds(100, 7).take(10_000)).toEqual(ids);
  expect(new RandomIds(100, 8).take(10_000)).not.toEqual(ids);
  expect(new Set(ids)).toEqual(new Set(Array.from({ length: 100 }, (_, id) => id)));
});

test('prompts of one generator differ', () => {
  const ids = new RandomIds(1000, 1);
  expect(ids.take(20)).not.toEqual(ids.take(20));
});

test('numbers keep three digits that mean something', () => {
  expect([0, 0.01234, 0.5, 3.456, 56.78, 99.96, 1234.5].map(digits)).toEqual([
    '0',
    '0.0123',
    '0.500',
    '3.46',
    '56.8',
    '100.0',
    '1235',
  ]);
  expect([12, 1234, 2_280_000, 1.31e9].map(scaled)).toEqual(['12.0 ', '1.23 k', '2.28 M', '1.31 G']);
  expect(percent(0.956)).toBe('96%');
});

test('a table aligns its first column to the left and the others to the right', () => {
  const rows = [
    ['', 'eager', 'b'],
    ['decode', '1–2', '300'],
  ];
  expect(textTable(rows)).toBe('         eager     b\ndecode     1–2   300\n');
});
