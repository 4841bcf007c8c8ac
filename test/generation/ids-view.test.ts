import { describe, expect, it } from 'vitest';
import { IdsView, IdsViews } from '../../src/generation/ids-view.ts';

describe('the ids that a function of the caller sees', () => {
  it('are those of the row, in one array that grows with it', () => {
    const [view, tokens] = [new IdsView(), [1, 2]];
    const first = view.of(tokens);
    expect(first).toEqual([1, 2]);
    tokens.push(3);
    expect(view.of(tokens)).toBe(first);
    expect(first).toEqual([1, 2, 3]);
  });

  it.each<[string, (ids: number[]) => void]>([
    ['empties', (ids) => ids.splice(0)],
    ['lengthens', (ids) => ids.push(9, 9)],
    ['stretches', (ids) => Object.assign(ids, { length: 1e9 })],
    ['freezes', (ids) => Object.freeze(ids)],
    ['fixes', (ids) => Object.defineProperty(ids, 'length', { writable: false })],
  ])('are whole again after it %s them, and the row is not touched', (_, change) => {
    const [view, tokens] = [new IdsView(), [1, 2]];
    change(view.of(tokens) as number[]);
    tokens.push(3);
    expect(view.of(tokens)).toEqual([1, 2, 3]);
    tokens.push(4);
    expect(view.of(tokens)).toEqual([1, 2, 3, 4]);
    expect(tokens).toEqual([1, 2, 3, 4]);
  });

  it('are kept row by row', () => {
    const views = new IdsViews();
    const rows = [
      { index: 0, tokens: [1] },
      { index: 1, tokens: [2, 3] },
    ];
    expect(rows.map((row) => views.of(row))).toEqual([[1], [2, 3]]);
    rows[0]?.tokens.push(5);
    expect(rows.map((row) => views.of(row))).toEqual([
      [1, 5],
      [2, 3],
    ]);
  });
});
