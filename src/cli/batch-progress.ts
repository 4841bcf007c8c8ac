import type { Writable } from 'node:stream';
import { type BatchResult, isAnswered } from '../batch/index.ts';
import { counted, formatDuration } from '../units.ts';

const REDRAW_MS = 100;
const PLAIN_LINE_MS = 10_000;

/** Shows how far a batch is: a line that is redrawn on a terminal, one every ten seconds elsewhere. */
export class BatchProgress {
  readonly #out: Writable & { isTTY?: boolean };
  readonly #total: number;
  readonly #earlier: number;
  readonly #now: () => number;
  readonly #started: number;
  #answered: number;
  #failed: number;
  #shownAt: number;

  /** @param earlier what an earlier run has done */
  constructor(
    out: Writable & { isTTY?: boolean },
    total: number,
    earlier: { readonly answered: number; readonly failed: number },
    now: () => number = () => performance.now(),
  ) {
    this.#out = out;
    this.#total = total;
    this.#answered = earlier.answered;
    this.#failed = earlier.failed;
    this.#earlier = earlier.answered + earlier.failed;
    this.#now = now;
    this.#started = now();
    this.#shownAt = this.#started;
    if (this.#earlier > 0)
      out.write(`${this.#earlier} of ${counted(total, 'line')} ${total === 1 ? 'is' : 'are'} done already\n`);
  }

  add(result: BatchResult): void {
    if (isAnswered(result)) this.#answered++;
    else this.#failed++;
    const now = this.#now();
    if (now - this.#shownAt < (this.#out.isTTY ? REDRAW_MS : PLAIN_LINE_MS)) return;
    this.#shownAt = now;
    this.#out.write(this.#out.isTTY ? `\r\x1b[K${this.#line(now)}` : `${this.#line(now)}\n`);
  }

  /** Says what came of it. */
  finish(): void {
    const failed = this.#failed > 0 ? `, ${this.#failed} with an error` : '';
    this.#out.write(
      `${this.#out.isTTY ? '\r\x1b[K' : ''}${counted(this.#answered, 'line')} answered${failed}\n`,
    );
  }

  #line(now: number): string {
    const done = this.#answered + this.#failed;
    const perSecond = (1000 * (done - this.#earlier)) / Math.max(1, now - this.#started);
    const left = formatDuration((this.#total - done) / perSecond);
    return `${done} of ${counted(this.#total, 'line')}, ${perSecond.toFixed(1)} a second, ${left} left`;
  }
}
