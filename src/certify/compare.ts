/** Whether two runs of a model are the same but for rounding, or as near as their storages allow. Pure. */
import type { PromptRun, Run } from './run.ts';

export interface Tolerances {
  /** Largest difference of logits, as a part of the largest logit at the position. */
  readonly logits: number;
  /** Router logits closer than this are a tie, which rounding may decide either way. */
  readonly tie: number;
}

/** For float32 on both sides. Orders of summation alone give 1e-6 to 1e-4. */
export const TOLERANCES: Tolerances = { logits: 1e-3, tie: 1e-3 };

/** What one of two runs has coarser than the other. */
export type Coarseness = 'int8' | 'int4' | 'int8 activations';

/**
 * How far apart such runs may be: see `Comparison.distance`. Checkpoints of random weights, in which every rounding counts, come to 0.02 to 0.13
 * with int8, 0.2 to 0.5 with int4 and 0.02 to 0.2 with rounded activations, the more the more layers are recurrent. Numbers that have nothing
 * to do with each other are 1.4 apart.
 */
export const DISTANCES: Readonly<Record<Coarseness, number>> = {
  int8: 0.2,
  int4: 0.6,
  'int8 activations': 0.25,
};

export interface Comparison {
  readonly a: string;
  readonly b: string;
  /** By what the runs differ besides rounding; absent where that is nothing. */
  readonly coarser?: Coarseness;
  /**
   * With `coarser`: √(Σ(a - b)² / Σa²) over the logits of a position, less their mean; the median of all positions, because routers choose
   * otherwise at some of them, where two experts are near each other. Nothing else decides then.
   */
  readonly distance?: number;
  /** Largest difference of logits, as `tolerances.logits` has it, at positions that no tie decides about. */
  readonly logits: number;
  /** Choices of a router, one for each token and layer, up to the first tie of a prompt that went the other way; those that differ. */
  readonly choices: number;
  readonly changed: number;
  /** Positions behind such ties, which nothing can be said about. */
  readonly undecided: number;
  readonly positions: number;
  /** Prompts whose greedy continuations differ, ties left out. */
  readonly greedyDiffers: number;
  readonly verdict: 'same' | 'different';
}

/** @param a and b over the same prompts */
export function compareRuns(a: Run, b: Run, tolerances: Tolerances = TOLERANCES): Comparison {
  const parts = a.prompts.map((prompt, i) => comparePrompts(prompt, b.prompts[i] as PromptRun, tolerances));
  const total = (field: 'choices' | 'changed' | 'undecided' | 'positions' | 'greedyDiffers') =>
    parts.reduce((sum, part) => sum + part[field], 0);
  const logits = parts.reduce((most, part) => worse(most, part.logits), 0);
  const counts = {
    ...{ choices: total('choices'), changed: total('changed'), undecided: total('undecided') },
    ...{ positions: total('positions'), greedyDiffers: total('greedyDiffers') },
  };
  const same =
    logits <= tolerances.logits &&
    counts.changed === 0 &&
    counts.greedyDiffers === 0 &&
    // Where nearly nothing could be compared, nothing is proved.
    2 * counts.undecided <= counts.positions;
  return { a: a.name, b: b.name, logits, ...counts, verdict: same ? 'same' : 'different' };
}

/** @param b the coarser of the two */
export function compareStorages(a: Run, b: Run, coarser: Coarseness, limits = DISTANCES): Comparison {
  // Nothing counts as a tie, and all positions count.
  const { undecided: _, ...counts } = compareRuns(a, b, { logits: Number.POSITIVE_INFINITY, tie: 0 });
  const distance = distanceOf(a, b);
  const verdict = distance <= limits[coarser] ? 'same' : 'different';
  return { ...counts, coarser, distance, undecided: 0, verdict };
}

function distanceOf(a: Run, b: Run): number {
  const distances = a.prompts.flatMap(({ logits }, i) =>
    logits.map((row, token) => rowDistance(row, b.prompts[i]?.logits[token] ?? [])),
  );
  return distances.sort((x, y) => x - y)[distances.length >> 1] ?? Number.POSITIVE_INFINITY;
}

function rowDistance(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  const [left, right] = [centred(a), centred(b)];
  const difference = left.reduce((sum, value, i) => sum + (value - (right[i] as number)) ** 2, 0);
  const size = left.reduce((sum, value) => sum + value ** 2, 0);
  return difference === 0 ? 0 : worse(Math.sqrt(difference / size), 0);
}

/** Softmax does not see what all logits of a position have in common. */
function centred(row: readonly number[]): number[] {
  const mean = row.reduce((a, b) => a + b, 0) / Math.max(1, row.length);
  return row.map((value) => value - mean);
}

function comparePrompts(a: PromptRun, b: PromptRun, tolerances: Tolerances) {
  const positions = a.logits.length;
  const end = firstTie(a, b, tolerances.tie);
  let logits = 0;
  for (let token = 0; token < end; token++) logits = worse(logits, difference(a, b, token));
  let changed = 0;
  for (const [layer, rows] of a.experts.entries())
    for (let token = 0; token < end; token++)
      if (!sameNumbers(rows[token] ?? [], b.experts[layer]?.[token] ?? [])) changed++;
  const greedyDiffers = end === positions && !sameNumbers(a.greedy, b.greedy) ? 1 : 0;
  return {
    ...{ logits, changed, greedyDiffers, positions, undecided: positions - end },
    choices: a.experts.length * end,
  };
}

/** The first token some router of which chose otherwise where that was a tie; behind it, all may differ. */
function firstTie(a: PromptRun, b: PromptRun, tie: number): number {
  let first = a.logits.length;
  for (const [layer, rows] of a.experts.entries())
    for (const [token, row] of rows.entries()) {
      const margin = Math.min(a.margins[layer]?.[token] ?? 0, b.margins[layer]?.[token] ?? 0);
      if (token < first && margin < tie && !sameNumbers(row, b.experts[layer]?.[token] ?? [])) first = token;
    }
  return first;
}

/** Of the logits at a position, and of what sums all of them up. */
function difference(a: PromptRun, b: PromptRun, token: number): number {
  const [left, right] = [a, b].map(({ logits, logsumexp }) => [
    ...(logits[token] ?? []),
    logsumexp[token] ?? Number.NaN,
  ]);
  const [x, y] = [left as number[], right as number[]];
  if (x.length !== y.length) return Number.POSITIVE_INFINITY;
  const scale = Math.max(1e-6, ...x.map(Math.abs));
  return x.reduce((most, value, i) => worse(most, Math.abs(value - (y[i] as number)) / scale), 0);
}

/** The larger of two, of which what is no number is the largest. */
function worse(a: number, b: number): number {
  return Number.isNaN(a) || Number.isNaN(b) ? Number.POSITIVE_INFINITY : Math.max(a, b);
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
