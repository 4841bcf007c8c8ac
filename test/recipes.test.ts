import { expect, test } from 'vitest';
import { recipes } from './recipes.ts';

test('every recipe says what runs it, or that nothing does', () => {
  expect(recipes().length).toBeGreaterThanOrEqual(8);
  const silent = recipes().filter(({ text }) => (text.match(/^\*.*\brun\b.*\*$/gim) ?? []).length !== 1);
  expect(silent.map(({ title }) => title)).toEqual([]);
});

test('recipes that are said to be run here have a program or commands', () => {
  const claimed = recipes().filter(({ isRunHere }) => isRunHere);
  expect(claimed.length).toBeGreaterThan(3);
  for (const { title, blocks } of claimed) expect(blocks.length, title).toBeGreaterThan(0);
});
