import { describe, expect, test } from 'vitest';
import { compareRuns, compareStorages, DISTANCES } from '../../src/certify/compare.ts';
import { fixedPrompts, type PromptRun, type Run, sampledIds } from '../../src/certify/run.ts';
import { compareForms, formName, type Storage } from '../../src/certify/storages.ts';
import { Random } from '../helpers/random.ts';

const prompt = (changes: Partial<PromptRun> = {}): PromptRun => ({
  logits: [
    [10, -2],
    [4, 5],
    [1, 8],
  ],
  logsumexp: [10, 5.5, 8],
  argmax: [0, 1, 1],
  experts: [
    [
      [0, 1],
      [0, 2],
      [1, 3],
    ],
  ],
  margins: [[0.5, 1e-5, 0.3]],
  greedy: [1, 2, 3],
  ...changes,
});
const run = (name: string, ...prompts: PromptRun[]): Run => ({ name, prompts });
const compare = (changes: Partial<PromptRun>) => compareRuns(run('a', prompt()), run('b', prompt(changes)));

test('what is equal is the same', () => {
  expect(compare({})).toEqual({
    ...{ a: 'a', b: 'b', logits: 0, choices: 3, changed: 0, undecided: 0, positions: 3, greedyDiffers: 0 },
    verdict: 'same',
  });
});

describe('logits', () => {
  const with8 = (value: number) => ({
    logits: [
      [10, -2],
      [4, 5],
      [1, value],
    ],
  });

  test('are compared with the largest at their position', () => {
    expect(compare(with8(8.004))).toMatchObject({ verdict: 'same' });
    expect(compare(with8(8.004)).logits).toBeCloseTo(0.0005, 6);
    expect(compare(with8(8.02))).toMatchObject({ verdict: 'different' });
  });

  test('that are not kept show in the sum of all', () => {
    expect(compare({ logsumexp: [10, 5.5, 8.1] })).toMatchObject({ verdict: 'different' });
  });

  test('that are no numbers, or of another vocabulary, are different', () => {
    expect(compare(with8(Number.NaN))).toMatchObject({
      logits: Number.POSITIVE_INFINITY,
      verdict: 'different',
    });
    expect(compare({ logits: [[10], [4], [1]] })).toMatchObject({ verdict: 'different' });
  });
});

describe('choices of routers', () => {
  test('that differ without being close are a difference', () => {
    expect(
      compare({
        experts: [
          [
            [0, 3],
            [0, 2],
            [1, 3],
          ],
        ],
      }),
    ).toMatchObject({ changed: 1, verdict: 'different' });
  });

  test('that are a tie leave open what comes behind them, and no more', () => {
    const tied = {
      experts: [
        [
          [0, 1],
          [0, 3],
          [1, 3],
        ],
      ],
      logits: [
        [10, -2],
        [4, 9],
        [7, 8],
      ],
      greedy: [7],
    };
    // Two of three positions are open: nothing is proved.
    expect(compare(tied)).toMatchObject({
      changed: 0,
      undecided: 2,
      logits: 0,
      greedyDiffers: 0,
      verdict: 'different',
    });
    const both = [prompt(), prompt(), prompt()];
    const some = [prompt(tied), prompt(), prompt()];
    expect(compareRuns(run('a', ...both), run('b', ...some))).toMatchObject({
      undecided: 2,
      verdict: 'same',
    });
    expect(
      compareRuns(
        run('a', ...both),
        run(
          'b',
          prompt({
            ...tied,
            logits: [
              [11, -2],
              [4, 9],
              [7, 8],
            ],
          }),
          prompt(),
          prompt(),
        ),
      ),
    ).toMatchObject({ verdict: 'different' });
  });
});

test('other greedy tokens are a difference', () => {
  expect(compare({ greedy: [1, 2, 4] })).toMatchObject({ greedyDiffers: 1, verdict: 'different' });
});

test('prompts and ids are the same wherever they are worked out, within any vocabulary', () => {
  const prompts = fixedPrompts(1024);
  expect(prompts.map(({ length }) => length)).toEqual([1, 16, 41]);
  expect(prompts[0]).toEqual([48271 % 512]);
  expect(Math.max(...prompts.flat())).toBeLessThan(512);
  expect(
    fixedPrompts(1)
      .flat()
      .every((id) => id === 0),
  ).toBe(true);
  expect(sampledIds(1024)).toEqual(Array.from({ length: 64 }, (_, i) => 16 * i));
  expect(sampledIds(3)).toEqual([0, 1, 2]);
});

describe('runs of which one is coarser', () => {
  const coarse = (changes: Partial<PromptRun>) =>
    compareStorages(run('a', prompt()), run('b', prompt(changes)), 'int8');

  test('are apart by the median position, whatever their logits have in common', () => {
    // Apart by 1.2 of 12, 0, and all of it.
    const logits = [
      [110.6, 97.4],
      [4, 5],
      [8, 1],
    ];
    const { distance, verdict } = coarse({ logits });
    expect(distance).toBeCloseTo(0.1, 12);
    expect(verdict).toBe('same');
    expect(coarse({ logits: prompt().logits }).distance).toBe(0);
  });

  test('differ beyond the limit, where they have nothing to do with each other, and by what is no number', () => {
    const random = new Random(3);
    const logits = () => Array.from({ length: 40 }, () => [...random.floats(64, 5)]);
    const [a, b] = [run('a', prompt({ logits: logits() })), run('b', prompt({ logits: logits() }))];
    const comparison = compareStorages(a, b, 'int4');
    expect(comparison.distance).toBeGreaterThan(1.2);
    expect(comparison.distance).toBeLessThan(1.6);
    expect(comparison.verdict).toBe('different');
    for (const wrong of [
      [
        [Number.NaN, 1],
        [Number.NaN, 1],
        [1, 8],
      ],
      [[10], [4], [1]],
    ])
      expect(coarse({ logits: wrong })).toMatchObject({
        distance: Number.POSITIVE_INFINITY,
        verdict: 'different',
      });
  });

  test('count experts that changed, which decide nothing', () => {
    const experts = [
      [
        [0, 2],
        [0, 2],
        [1, 3],
      ],
    ];
    expect(coarse({ experts, greedy: [2, 2, 3] })).toMatchObject({
      ...{ choices: 3, changed: 1, undecided: 0, greedyDiffers: 1, verdict: 'same' },
    });
  });
});

test('forms of a checkpoint are compared by all backends within each, and with each other by one', () => {
  const form = (storage: Storage, int8Activations = false) => ({
    ...{ storage, int8Activations },
    runs: ['x', 'y'].map((name) => run(`${name}${formName({ storage, int8Activations })}`, prompt())),
  });
  const found = compareForms([form('stored'), form('int8'), form('int8', true), form('int4')]);
  expect(found.map(({ a, b, coarser }) => [a, b, coarser])).toEqual([
    ['x', 'y', undefined],
    ['x, int8', 'y, int8', undefined],
    ['x', 'x, int8', 'int8'],
    ['x, int8, int8 activations', 'y, int8, int8 activations', 'int8 activations'],
    ['x, int8', 'x, int8, int8 activations', 'int8 activations'],
    ['x, int4', 'y, int4', undefined],
    ['x', 'x, int4', 'int4'],
  ]);
  expect(found.every(({ verdict }) => verdict === 'same')).toBe(true);
  expect(Object.values(DISTANCES).every((limit) => limit < 1)).toBe(true);
});
