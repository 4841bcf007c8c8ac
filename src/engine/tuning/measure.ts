/** Measures which experts backend is fastest for how many tokens: real passes of a loaded model, on this machine. */
import { setImmediate } from 'node:timers/promises';
import { IMPLEMENTATIONS } from '../../experts/moe-op.ts';
import { type BuiltInBackend, RECORDABLE_BACKENDS, type TuningEntry, type TuningTable } from './policy.ts';

/** Token counts that are measured. Prompts run in passes of at most the last. */
export const TOKEN_COUNTS: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/** Runs one pass of `tokens` tokens on a backend. */
export type RunPass = (tokens: number, backend: BuiltInBackend, signal?: AbortSignal) => Promise<void>;

/** How far measuring is, told before each look at a token count, and at the end. */
export interface TuningProgress {
  /** Tokens of the passes that are measured now; at the end, of the last ones. */
  readonly tokens: number;
  /** Looks at token counts that are done, of all: two at each. */
  readonly done: number;
  readonly total: number;
}

export interface AutotuneOptions {
  readonly counts: readonly number[];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TuningProgress) => void) | undefined;
  /** About how long to measure. What is left is then not in the table. */
  readonly seconds?: number;
  /** Milliseconds that have passed since some moment. */
  readonly now?: () => number;
}

const SECONDS = 30;
/** Visits to a count, at different times, so that what disturbs one does not disturb all. */
const LEAST_VISITS = 2;
const MOST_VISITS = 4;
/** Rounds of a visit that count. */
const ROUNDS = 4;
/** A round that is by so much faster than the one before shows that the machine was still warming up: pages, clock, caches. */
const WARMING = 0.9;
const MOST_WARMING = 4;
/** What another backend than the default must save at least; less is noise. */
const MARGIN = 0.03;
/** A backend that took so many times as long as the default in two rounds and all others is out of the running for a count. */
const HOPELESS = 2;

/**
 * The fastest backend for each token count; grouped_mm where another does not beat it in nearly every round. In a round the backends take
 * turns, each time another first, and are compared with each other: what slows the machine down for longer than a round slows all of
 * them. Counts whose rounds scatter are measured again.
 */
export async function autotune(
  run: RunPass,
  { counts, signal, onProgress, seconds = SECONDS, now = () => performance.now() }: AutotuneOptions,
): Promise<TuningTable> {
  const started = now();
  const left = () => seconds * 1000 - (now() - started);
  const ascending = [...counts].sort((a, b) => a - b);
  const rows: Row[] = [];
  // Counts that are looked at once more are not foreseen.
  const total = LEAST_VISITS * ascending.length;
  const visit = (row: Row, share: number, done: number) => {
    if (done < total) onProgress?.({ tokens: row.tokens, done, total });
    return row.visit(run, now() + share, now, signal);
  };
  for (const [i, tokens] of ascending.entries()) {
    // A later count takes longer than all before it; without time for it the table ends here.
    if (i > 0 && left() <= 0) break;
    const row = new Row(tokens);
    rows.push(row);
    await visit(row, left() / (ascending.length - i) / LEAST_VISITS, i);
  }
  for (let visits = 1; visits < MOST_VISITS; visits++)
    for (const [i, row] of rows.entries())
      if (left() > 0 && (visits < LEAST_VISITS || !row.isSettled))
        await visit(row, left() / (rows.length - i), visits * rows.length + i);
  onProgress?.({ tokens: ascending.at(-1) as number, done: total, total });
  return rows.map((row) => row.entry);
}

/** Milliseconds of a round; without those that are out of the running. */
type Round = Partial<Record<BuiltInBackend, number>> & { readonly grouped_mm: number };

/** What is measured of one token count. */
class Row {
  readonly tokens: number;
  readonly #visits: Round[][] = [];
  #turn = 0;

  constructor(tokens: number) {
    this.tokens = tokens;
  }

  /** @param until when the visit is to end; one round is always counted */
  async visit(
    run: RunPass,
    until: number,
    now: () => number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let before = await this.#round(run, now, signal);
    let warming = true;
    const rounds: Round[] = [];
    this.#visits.push(rounds);
    for (let all = 1; rounds.length < ROUNDS; all++) {
      if (rounds.length > 0 && now() > until) return;
      const round = await this.#round(run, now, signal);
      warming &&= all < MOST_WARMING && sumOf(round) < WARMING * sumOf(before) && now() <= until;
      before = round;
      if (warming) continue;
      rounds.push(round);
    }
  }

  /** Whether more rounds would hardly change what is fastest. */
  get isSettled(): boolean {
    return this.#running.every((backend) => {
      const { low, high } = quartiles(this.#ratios(backend));
      return high < 1 - MARGIN || low > 1 - MARGIN;
    });
  }

  get entry(): TuningEntry {
    const medians = IMPLEMENTATIONS.map((backend) => [backend, this.#median(backend)] as const);
    return {
      tokens: this.tokens,
      backend: this.#fastest(IMPLEMENTATIONS),
      recordable: this.#fastest(RECORDABLE_BACKENDS),
      milliseconds: Object.fromEntries(medians) as Record<BuiltInBackend, number>,
    };
  }

  async #round(run: RunPass, now: () => number, signal: AbortSignal | undefined): Promise<Round> {
    const backends = this.#running;
    const first = this.#turn++ % backends.length;
    const times: [BuiltInBackend, number][] = [];
    for (const backend of [...backends.slice(first), ...backends.slice(0, first)]) {
      const before = now();
      await run(this.tokens, backend, signal);
      times.push([backend, now() - before]);
    }
    await setImmediate();
    return Object.fromEntries(times) as Round;
  }

  /** The backends that may still turn out to be fastest. */
  get #running(): BuiltInBackend[] {
    return IMPLEMENTATIONS.filter((backend) => {
      const ratios = this.#ratios(backend);
      return ratios.length < 2 || Math.min(...ratios) <= HOPELESS;
    });
  }

  /** Times beside those of the default in the same rounds. */
  #ratios(backend: BuiltInBackend, rounds = this.#visits.flat()): number[] {
    return rounds.flatMap((round) => {
      const time = round[backend];
      // Of a clock that stood still nothing is to be learnt.
      return time === undefined ? [] : [round.grouped_mm > 0 ? time / round.grouped_mm : 1];
    });
  }

  #median(backend: BuiltInBackend): number {
    const times = this.#visits.flat().flatMap((round) => round[backend] ?? []);
    return Number(quartiles(times).median.toPrecision(4));
  }

  /** The default backend stays unless another is clearly faster, in three rounds of four, and at every visit of at least two. */
  #fastest<T extends BuiltInBackend>(backends: readonly (T | 'grouped_mm')[]): T | 'grouped_mm' {
    let best: T | 'grouped_mm' = 'grouped_mm';
    let least = 1 - MARGIN;
    for (const backend of backends) {
      const { median, high } = quartiles(this.#ratios(backend));
      const isSlower = this.#median(backend) >= this.#median('grouped_mm');
      const isConfirmed =
        this.#visits.length >= LEAST_VISITS &&
        this.#visits.every((rounds) => quartiles(this.#ratios(backend, rounds)).median < 1);
      if (median >= least || high >= 1 || isSlower || !isConfirmed) continue;
      [best, least] = [backend, median];
    }
    return best;
  }
}

const sumOf = (round: Round) => Object.values(round).reduce((a, b) => a + b, 0);

export function quartiles(values: readonly number[]): { low: number; median: number; high: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] as number;
  return { low: at(0.25), median: at(0.5), high: at(0.75) };
}
