/** Which experts backend executes a pass, given the one that was asked for. */

/** The built-in backends, which a pass can pick without another session. */
export const BUILT_IN_BACKENDS = ['grouped_mm', 'batched_mm', 'eager'] as const;
export type BuiltInBackend = (typeof BUILT_IN_BACKENDS)[number];

/** One pass of a batch through the decoder. */
export interface Pass {
  /** Of all rows together. */
  readonly tokens: number;
  /** `decode`: one new token a row. */
  readonly phase: 'prefill' | 'decode';
}

/** Says which backend executes a pass that is about to run. */
export type BackendReader = (pass: Pass) => string;

/** The fastest backend by number of tokens, ascending. */
export type TuningTable = readonly { readonly tokens: number; readonly backend: BuiltInBackend }[];

export interface BackendPolicy {
  readonly device: 'cpu' | 'cuda';
  /** Experts a token is routed to. */
  readonly topK: number;
  /** Whether `grouped_mm` may decode with `batched_mm` on a GPU. */
  readonly decodeWithBatchedMm: boolean;
  /** What was measured on this machine; it decides instead of the rule for GPUs. */
  readonly table: TuningTable | undefined;
}

/**
 * Most pairs of token and expert that a GPU decodes pair by pair. So few seldom meet in one expert, so that sorting them saves
 * no reading of weights, and costs launches.
 */
export const MOST_BATCHED_PAIRS = 32;

/** The backend that executes a pass. Only `grouped_mm`, the default, ever stands for another: what else was chosen is what runs. */
export function chooseBackend(requested: string, pass: Pass, policy: BackendPolicy): string {
  if (requested !== 'grouped_mm') return requested;
  if (policy.table) return fromTable(policy.table, pass.tokens) ?? requested;
  const isDecode = policy.device === 'cuda' && pass.phase === 'decode' && policy.decodeWithBatchedMm;
  return isDecode && pass.tokens * policy.topK <= MOST_BATCHED_PAIRS ? 'batched_mm' : requested;
}

/** The winner at the measured count whose ratio to `tokens` is least; undefined beyond what was measured. */
function fromTable(table: TuningTable, tokens: number): BuiltInBackend | undefined {
  if (tokens > (table.at(-1)?.tokens ?? 0)) return undefined;
  const distance = (count: number) => Math.abs(Math.log(tokens / count));
  return table.reduce((best, entry) => (distance(entry.tokens) < distance(best.tokens) ? entry : best))
    .backend;
}
