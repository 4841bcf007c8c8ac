/** Which experts backend executes a pass, given the one that was asked for. */

import { AUTO, type IMPLEMENTATIONS } from '../../experts/moe-op.ts';

/** The built-in backends, which a pass can pick without another session. */
export type BuiltInBackend = (typeof IMPLEMENTATIONS)[number];

/** One pass of a batch through the decoder. */
export interface Pass {
  /** Of all rows together. */
  readonly tokens: number;
  /** `decode`: one new token a row. */
  readonly phase: 'prefill' | 'decode';
}

/** What a call has been told, or reads, of the experts backend. */
export interface BackendReader {
  /** The backend that is asked for, as things are now. */
  requested(): string;
  /** The one that executes a pass that is about to run. */
  choose(pass: Pass): string;
}

/** Backends whose decode steps a GPU can record; `eager` waits for it in the middle of a step. */
export const RECORDABLE_BACKENDS = ['grouped_mm', 'batched_mm'] as const satisfies readonly BuiltInBackend[];
export type RecordableBackend = (typeof RECORDABLE_BACKENDS)[number];

/** What was fastest with a number of tokens. */
export interface TuningEntry {
  readonly tokens: number;
  readonly backend: BuiltInBackend;
  /** Of those whose steps can be recorded. */
  readonly recordable: RecordableBackend;
  /** Median of a pass on each backend, in milliseconds; absent in tables of the caller's own. */
  readonly milliseconds?: Readonly<Record<BuiltInBackend, number>> | undefined;
}

/** Ascending by number of tokens. */
export type TuningTable = readonly TuningEntry[];

export interface BackendPolicy {
  readonly device: 'cpu' | 'cuda';
  /** Experts a token is routed to. */
  readonly topK: number;
  /** Whether `grouped_mm` may decode with `batched_mm` on a GPU. */
  readonly decodeWithBatchedMm: boolean;
  /** What was measured on this machine, where `grouped_mm` may stand for it; it decides instead of the rule for GPUs. */
  readonly table: TuningTable | undefined;
  /** What was measured, for `auto`. */
  readonly autoTable?: TuningTable | undefined;
  /** Whether decode steps on a backend are recorded. */
  readonly recordsSteps: (backend: string) => boolean;
}

/**
 * Most pairs of token and expert that a GPU decodes pair by pair. So few seldom meet in one expert, so that sorting them saves
 * no reading of weights, and costs launches.
 */
export const MOST_BATCHED_PAIRS = 32;

/**
 * The backend that executes a pass. Only `grouped_mm`, the default, and `auto` ever stand for another: what else was chosen is what runs.
 * Where nothing was measured, `auto` is `grouped_mm`.
 */
export function chooseBackend(requested: string, pass: Pass, policy: BackendPolicy): string {
  if (requested !== 'grouped_mm' && requested !== AUTO) return requested;
  const table = requested === AUTO ? (policy.autoTable ?? policy.table) : policy.table;
  if (table) {
    const entry = nearestEntry(table, pass.tokens);
    if (!entry) return 'grouped_mm';
    // Replaying a step saves its launches, which outweighs what a backend that cannot be recorded may win.
    return pass.phase === 'decode' && policy.recordsSteps(entry.recordable)
      ? entry.recordable
      : entry.backend;
  }
  const isDecode = policy.device === 'cuda' && pass.phase === 'decode' && policy.decodeWithBatchedMm;
  return isDecode && pass.tokens * policy.topK <= MOST_BATCHED_PAIRS ? 'batched_mm' : 'grouped_mm';
}

/** What was measured at the count whose ratio to `tokens` is least; undefined beyond what was measured. */
function nearestEntry(table: TuningTable, tokens: number): TuningEntry | undefined {
  if (tokens > (table.at(-1)?.tokens ?? 0)) return undefined;
  const distance = (count: number) => Math.abs(Math.log(tokens / count));
  return table.reduce((best, entry) => (distance(entry.tokens) < distance(best.tokens) ? entry : best));
}
