/** The highest scores of one row, best first, equal ones by ascending id. */
export interface Shortlist {
  readonly values: Float32Array;
  readonly ids: Int32Array;
  /** No token that is not listed has a higher score; −∞ where all that can be chosen are listed. */
  readonly floor: number;
  /** Tokens that are not listed and score as much as the floor have higher ids than this. */
  readonly floorId: number;
}

/** Highest scores as a pass lists them. @param vocab scores there are */
export function listed(values: Float32Array, ids: Int32Array, vocab: number): Shortlist {
  const isWhole = values.length >= vocab;
  return {
    values,
    ids,
    floor: isWhole ? -Infinity : (values.at(-1) ?? Infinity),
    floorId: ids.at(-1) ?? -1,
  };
}

/** The `count` highest of a row's scores [vocab]; NaN counts as −∞. */
export function highest(scores: Float32Array, count: number): Shortlist {
  const least = count < scores.length ? kthHighest(scores, count) : -Infinity;
  const ids: number[] = [];
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score > -Infinity && score >= least) ids.push(id);
  }
  ids.sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
  const values = Float32Array.from(ids, (id) => scores[id] as number);
  // All that tie with the last are listed, so that what is not is below it.
  return { values, ids: Int32Array.from(ids), floor: least, floorId: scores.length };
}

/**
 * Of a list what `allows` lets pass, best first: at least the `wanted` highest and all that could tie with the last of them, as far as
 * the list goes. What comes after those is not looked at.
 */
export function allowedOf(list: Shortlist, allows: (id: number) => boolean, wanted: number): Shortlist {
  const kept: number[] = [];
  for (const [i, id] of list.ids.entries()) {
    const value = list.values[i] as number;
    if (value === -Infinity) break;
    const last = list.values[kept[wanted - 1] ?? -1];
    if (last !== undefined && value < tieBound(last)) return part(list, kept, { floor: value, floorId: -1 });
    if (allows(id)) kept.push(i);
  }
  return part(list, kept, list);
}

function part(list: Shortlist, places: readonly number[], rest: Pick<Shortlist, 'floor' | 'floorId'>) {
  return {
    values: Float32Array.from(places, (i) => list.values[i] as number),
    ids: Int32Array.from(places, (i) => list.ids[i] as number),
    floor: rest.floor,
    floorId: rest.floorId,
  };
}

/** The lowest score that dividing by a temperature may round to the same value as this one. */
export function tieBound(score: number): number {
  return score - Math.abs(score) * 1e-6;
}

/** The k-th highest value, or −∞ where there are fewer above −∞: a heap of the k highest seen, its lowest on top. */
export function kthHighest(scores: Float32Array, k: number): number {
  const heap = new Float32Array(k).fill(-Infinity);
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score > (heap[0] as number)) replaceTop(heap, score);
  }
  return heap[0] as number;
}

function replaceTop(heap: Float32Array, value: number): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++;
    if ((heap[child] as number) >= value) break;
    heap[at] = heap[child] as number;
    at = child;
  }
  heap[at] = value;
}
