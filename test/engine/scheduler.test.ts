import { describe, expect, it } from 'vitest';
import { type PassLimits, planPass, type Waiting } from '../../src/engine/scheduler.ts';

const LIMITS: PassLimits = { tokens: 512, besideDecoding: 128 };
const asks = (pending: number | number[], key = 'grouped_mm'): Waiting => ({
  pending: [pending].flat(),
  key,
});
/** [request, tokens of its sequences] of each share. */
const plan = (queue: Waiting[], limits = LIMITS) =>
  planPass(queue, limits).map(({ request, tokens }) => [request, ...tokens]);

describe('a pass', () => {
  it('holds all decoding rows, and prompts in what is left beside them', () => {
    expect(plan([asks(1), asks([1, 1]), asks(1000), asks(1)])).toEqual([
      [0, 1],
      [1, 1, 1],
      [2, 125],
      [3, 1],
    ]);
  });

  it('takes a long prompt in equal parts, with all the room when nobody decodes', () => {
    expect(plan([asks(1000)])).toEqual([[0, 500]]);
    expect(plan([asks(500)])).toEqual([[0, 500]]);
  });

  it('takes short prompts of one request and of several together', () => {
    expect(plan([asks([5, 100, 7])])).toEqual([[0, 5, 100, 7]]);
    expect(plan([asks(20), asks(30), asks([4, 4])])).toEqual([
      [0, 20],
      [1, 30],
      [2, 4, 4],
    ]);
  });

  it('lets short prompts pass while a long one runs', () => {
    expect(plan([asks(10_000), asks(60), asks(9_000), asks(20)])).toEqual([
      [0, 371],
      [1, 60],
      [2, 61],
      [3, 20],
    ]);
  });

  it('begins a sequence only when the one before it has ended', () => {
    expect(plan([asks([400, 400, 50])])).toEqual([[0, 400, 100, 0]]);
  });

  it('is of one key, the oldest request’s', () => {
    expect(plan([asks(1, 'eager'), asks(1), asks(300), asks(1, 'eager')])).toEqual([
      [0, 1],
      [3, 1],
    ]);
  });

  it('takes the oldest request even where it alone has more rows than a pass should', () => {
    const rows = Array(600).fill(1);
    expect(plan([asks(rows), asks(1)])).toEqual([[0, ...rows]]);
  });

  it('is empty for an empty queue', () => {
    expect(plan([])).toEqual([]);
  });

  it('keeps its limits, and ends every request, through random queues', () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let round = 0; round < 200; round++) {
      const queue: Waiting[] = Array.from({ length: 1 + random(8) }, () =>
        random(2)
          ? asks(Array(1 + random(4)).fill(1), random(3) ? 'a' : 'b')
          : asks(
              Array.from({ length: 1 + random(3) }, () => 1 + random(900)),
              random(3) ? 'a' : 'b',
            ),
      );
      let passes = 0;
      let waiting = queue;
      while (waiting.length > 0) {
        expect(++passes).toBeLessThan(200);
        const shares = planPass(waiting, LIMITS);
        expect(shares.length).toBeGreaterThan(0);
        const tokens = shares.flatMap((share) => share.tokens).reduce((a, b) => a + b, 0);
        expect(tokens).toBeGreaterThan(0);
        expect(tokens).toBeLessThanOrEqual(LIMITS.tokens);
        expect(new Set(shares.map(({ request }) => waiting[request]?.key)).size).toBe(1);
        const given = new Map(shares.map(({ request, tokens }) => [request, tokens]));
        waiting = waiting
          .map(({ pending, key }, request) => ({
            key,
            pending: pending.map((count, i) => count - (given.get(request)?.[i] ?? 0)),
          }))
          .filter(({ pending }) => pending.some((count) => count > 0));
        for (const { pending } of waiting) expect(pending.every((count) => count >= 0)).toBe(true);
      }
    }
  });
});
