/** In which forms a checkpoint is run to be compared with itself, and what of them is to agree with what. */
import { type Coarseness, type Comparison, compareRuns, compareStorages } from './compare.ts';
import type { Run } from './run.ts';

/** `stored`: as the files have it. The others round its weights at load. */
export const STORAGES = ['stored', 'int8', 'int4'] as const;
export type Storage = (typeof STORAGES)[number];

/** A form of a checkpoint. */
export interface Form {
  readonly storage: Storage;
  /** Whether what meets weights of whole numbers is rounded to int8. */
  readonly int8Activations: boolean;
}

/** How a form is run: by every backend. */
export interface FormRuns extends Form {
  readonly runs: readonly Run[];
}

/** What the name of a run says of its form: nothing of weights as they are stored. */
export function formName({ storage, int8Activations }: Form): string {
  return [storage === 'stored' ? '' : `, ${storage}`, int8Activations ? ', int8 activations' : ''].join('');
}

/**
 * Runs of one form with each other, on all backends and devices, to the last rounding; forms with each other by their first runs: rounded
 * weights with those that are stored, and rounded activations with exact ones.
 */
export function compareForms(forms: readonly FormRuns[]): Comparison[] {
  const find = (storage: Storage) =>
    forms.find((form) => form.storage === storage && !form.int8Activations)?.runs[0];
  const stored = find('stored');
  return forms.flatMap(({ storage, int8Activations, runs }) => {
    const [first] = runs as readonly [Run, ...Run[]];
    const exact = find(storage);
    return [
      ...pairs(runs, int8Activations ? 'int8 activations' : undefined),
      ...(int8Activations && exact ? [compareStorages(exact, first, 'int8 activations')] : []),
      ...(!int8Activations && storage !== 'stored' && stored
        ? [compareStorages(stored, first, storage)]
        : []),
    ];
  });
}

/** @param coarser what runs differ by after the slightest difference of rounding */
function pairs(runs: readonly Run[], coarser: Coarseness | undefined): Comparison[] {
  const compare = (a: Run, b: Run) => (coarser ? compareStorages(a, b, coarser) : compareRuns(a, b));
  return runs.flatMap((a, i) => runs.slice(i + 1).map((b) => compare(a, b)));
}
