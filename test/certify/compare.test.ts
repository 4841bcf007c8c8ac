import { describe, expect, test } from 'vitest';
import { compareRuns } from '../../src/certify/compare.ts';
import { fixedPrompts, type PromptRun, type Run, sampledIds } from '../../src/certify/run.ts';

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
