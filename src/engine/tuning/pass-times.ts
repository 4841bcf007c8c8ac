/** How long real passes take, by which a table shows that was measured while others kept the machine busy. */
import { quartiles, TOKEN_COUNTS } from './measure.ts';
import type { TuningTable } from './policy.ts';

/** Passes of a kind that are remembered, and how many it takes to say something. */
const KEPT = 16;
/**
 * Passes that take less than this part of what was measured were measured at a bad time. The other way round nothing follows: a pass takes
 * longer with what came before it in its sequence.
 */
const MUCH_FASTER = 0.7;

export class PassTimes {
  readonly #times = new Map<string, number[]>();

  /** A pass of so many tokens took so long on a backend. */
  passed(tokens: number, backend: string, milliseconds: number): void {
    if (!TOKEN_COUNTS.includes(tokens)) return;
    const key = `${tokens} ${backend}`;
    const times = this.#times.get(key) ?? [];
    times.push(milliseconds);
    if (times.length > KEPT) times.shift();
    this.#times.set(key, times);
  }

  clear(): void {
    this.#times.clear();
  }

  /** The token counts of a table whose passes are much faster by now than when it was measured. */
  fasterThan(table: TuningTable): number[] {
    return table
      .filter(({ tokens, backend, milliseconds }) => {
        const times = this.#times.get(`${tokens} ${backend}`) ?? [];
        const measured = milliseconds?.[backend];
        if (times.length < KEPT || measured === undefined) return false;
        return quartiles(times).median < MUCH_FASTER * measured;
      })
      .map(({ tokens }) => tokens);
  }
}
