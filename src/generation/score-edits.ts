import type { Shortlist } from './shortlist.ts';

/** A change of some tokens' scores. What it makes of a score depends on nothing but that score and its token. */
export interface ScoreEdit {
  /** The tokens it changes, or with `others` those that it leaves alone. */
  readonly ids: { has(id: number): boolean; keys(): Iterable<number> };
  readonly others?: boolean;
  /** Whether it raises no score: the highest are then among those that were the highest. */
  readonly lowers: boolean;
  change(score: number, id: number): number;
}

/** A change of all scores together, such as a function of the caller's. */
export interface WholeEdit {
  changeAll(scores: Float32Array): void;
}

/** −∞ for some tokens. */
export function forbidding(ids: ScoreEdit['ids']): ScoreEdit {
  return { ids, lowers: true, change: () => -Infinity };
}

/** −∞ for all but some tokens. */
export function allowingOnly(ids: ScoreEdit['ids']): ScoreEdit {
  return { ...forbidding(ids), others: true };
}

/** Applies edits, in their order, to the scores of all tokens [vocab], in place. */
export function editAll(scores: Float32Array, edits: readonly (ScoreEdit | WholeEdit)[]): void {
  for (const edit of edits) {
    if ('changeAll' in edit) edit.changeAll(scores);
    else if (edit.others) {
      for (let id = 0; id < scores.length; id++)
        if (!edit.ids.has(id)) scores[id] = edit.change(scores[id] as number, id);
    } else {
      for (const id of edit.ids.keys())
        if (id < scores.length) scores[id] = edit.change(scores[id] as number, id);
    }
  }
}

/**
 * Applies edits to the highest scores alone.
 * @returns the list in its new order; undefined where an edit could raise a score that is not listed
 */
export function editList(list: Shortlist, edits: readonly (ScoreEdit | WholeEdit)[]): Shortlist | undefined {
  if (edits.length === 0) return list;
  const values = list.values.slice();
  for (const edit of edits) {
    if ('changeAll' in edit || !edit.lowers) return undefined;
    for (const [i, id] of list.ids.entries())
      if (edit.ids.has(id) !== (edit.others ?? false)) values[i] = edit.change(values[i] as number, id);
  }
  const order = [...values.keys()].sort((a, b) => {
    const difference = (values[b] as number) - (values[a] as number);
    // Of two infinities the difference is no number.
    return difference || (list.ids[a] as number) - (list.ids[b] as number);
  });
  return {
    ...list,
    values: Float32Array.from(order, (i) => values[i] as number),
    ids: Int32Array.from(order, (i) => list.ids[i] as number),
  };
}
