/** Measures which experts backend is fastest for how many tokens: real passes of a loaded model, on this machine. */
import { setImmediate } from 'node:timers/promises';
import { IMPLEMENTATIONS } from '../../experts/moe-op.ts';
import { type BuiltInBackend, RECORDABLE_BACKENDS, type TuningEntry, type TuningTable } from './policy.ts';

/** Token counts that are measured. Prompts run in passes of at most the last. */
export const TOKEN_COUNTS: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/** Runs one pass of `tokens` tokens on a backend. */
export type RunPass = (tokens: number, backend: BuiltInBackend, signal?: AbortSignal) => Promise<void>;

/** How far measuring is, told before each token count, and at the end. */
export interface TuningProgress {
  /** Tokens of the passes that are measured now; at the end, of the last ones. */
  readonly tokens: number;
  /** Token counts that are done, of all. */
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
const LEAST_ROUNDS = 3;
const MOST_ROUNDS = 9;
/** What another backend than the default must save at least; less is noise. */
const MARGIN = 0.03;

/**
 * The fastest backend for each token count, grouped_mm where it comes close, by the median of passes in which the backends take
 * turns, so that a machine that slows down slows all alike. The first pass of each is not counted: it maps weights and settles
 * memory.
 */
export async function autotune(
  run: RunPass,
  { counts, signal, onProgress, seconds = SECONDS, now = () => performance.now() }: AutotuneOptions,
): Promise<TuningTable> {
  const table: TuningEntry[] = [];
  const ascending = [...counts].sort((a, b) => a - b);
  const total = ascending.length;
  const started = now();
  const left = () => seconds * 1000 - (now() - started);
  for (const [i, tokens] of ascending.entries()) {
    // A later count takes longer than all before it; without time for it the table ends here.
    if (i > 0 && left() <= 0) break;
    onProgress?.({ tokens, done: i, total });
    const share = now() + left() / (total - i);
    const times: Times = { grouped_mm: [], batched_mm: [], eager: [] };
    for (let round = 0; round <= MOST_ROUNDS; round++) {
      if (round > LEAST_ROUNDS && now() > share) break;
      for (const backend of IMPLEMENTATIONS) {
        const before = now();
        await run(tokens, backend, signal);
        if (round > 0) times[backend].push(now() - before);
      }
      await setImmediate();
    }
    const backend = fastest(IMPLEMENTATIONS, times);
    const medians = IMPLEMENTATIONS.map(
      (name) => [name, Number(medianOf(times[name]).toPrecision(4))] as const,
    );
    const milliseconds = Object.fromEntries(medians) as Record<BuiltInBackend, number>;
    table.push({ tokens, backend, recordable: fastest(RECORDABLE_BACKENDS, times), milliseconds });
  }
  onProgress?.({ tokens: ascending[total - 1] as number, done: total, total });
  return table;
}

type Times = Readonly<Record<BuiltInBackend, number[]>>;

/** The default backend stays unless another is clearly faster. */
function fastest<T extends BuiltInBackend>(backends: readonly (T | 'grouped_mm')[], times: Times) {
  const best = backends.reduce((a, b) => (medianOf(times[b]) < medianOf(times[a]) ? b : a));
  return medianOf(times[best]) < (1 - MARGIN) * medianOf(times.grouped_mm) ? best : 'grouped_mm';
}

function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number;
}
