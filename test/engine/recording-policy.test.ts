import { describe, expect, test } from 'vitest';
import { RecordingPolicy, Recordings } from '../../src/engine/recording-policy.ts';

const KEY = { rows: 2, tableWidth: 4, buffer: 0, implementation: 'grouped_mm', candidates: 1 };

function graphs(policy = new RecordingPolicy()) {
  policy.enabled = true;
  const released: string[] = [];
  return { policy, released, steps: new Recordings<string>(policy, (name) => released.push(name)) };
}

describe('Recordings', () => {
  test('runs a kind of step twice, records the third and replays from then on', () => {
    const { policy, steps } = graphs();
    expect([steps.next(KEY).kind, steps.next(KEY).kind, steps.next(KEY).kind]).toEqual([
      'run',
      'run',
      'capture',
    ]);
    steps.captured(KEY, 'first');
    expect(steps.next({ ...KEY })).toEqual({ kind: 'replay', captured: 'first' });
    steps.replayed();
    expect([policy.captures, policy.replays]).toEqual([1, 1]);
  });

  test.each([
    { rows: 3 },
    { tableWidth: 8 },
    { buffer: 1 },
    { implementation: 'batched_mm' },
    { candidates: 8 },
  ])('records anew for %j, and keeps the old recording', (change) => {
    const { steps } = graphs();
    steps.next(KEY);
    steps.captured(KEY, 'first');
    expect(steps.next({ ...KEY, ...change }).kind).toBe('run');
    expect(steps.next(KEY)).toEqual({ kind: 'replay', captured: 'first' });
  });

  test('only runs while graphs are not asked for', () => {
    const { policy, steps } = graphs();
    steps.captured(KEY, 'first');
    policy.enabled = false;
    expect(steps.next(KEY)).toEqual({ kind: 'run' });
    policy.enabled = true;
    expect(steps.next(KEY)).toEqual({ kind: 'replay', captured: 'first' });
  });

  test('tries no other recording on a backend once one has failed, for any cache', () => {
    const { policy, steps } = graphs();
    const other = graphs(policy).steps;
    expect(policy.fail('grouped_mm', 'no room')).toBe(true);
    expect(policy.fail('grouped_mm', 'again')).toBe(false);
    expect(policy.fault).toBe('grouped_mm: no room');
    for (let i = 0; i < 4; i++) expect([steps.next(KEY).kind, other.next(KEY).kind]).toEqual(['run', 'run']);
    expect([policy.records('grouped_mm'), policy.records('batched_mm')]).toEqual([false, true]);
    const batched = { ...KEY, implementation: 'batched_mm' };
    expect([1, 2, 3].map(() => steps.next(batched).kind)).toEqual(['run', 'run', 'capture']);
  });

  test('keeps a bounded number of recordings, those used last', () => {
    const { steps, released } = graphs();
    for (let rows = 1; rows <= 33; rows++) {
      steps.captured({ ...KEY, rows }, `of ${rows} rows`);
      steps.next({ ...KEY, rows: 1 });
    }
    expect(released).toEqual(['of 2 rows']);
  });

  test('frees every recording with the memory they name, and starts over', () => {
    const { steps, released } = graphs();
    steps.captured(KEY, 'first');
    steps.captured({ ...KEY, rows: 1 }, 'second');
    steps.next({ ...KEY, rows: 7 });
    steps.clear();
    expect(released).toEqual(['first', 'second']);
    expect(steps.next(KEY).kind).toBe('run');
  });
});
