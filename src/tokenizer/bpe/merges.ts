/** Pairs of ids that merge into one: an open-addressing hash table, 16 bytes an entry at half load. */
export class MergeTable {
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #merged: Int32Array;
  readonly #mask: number;

  /** @param count how many merges will be added at most */
  constructor(count: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(8, 2 * count)));
    this.#left = new Int32Array(slots).fill(-1);
    this.#right = new Int32Array(slots);
    this.#rank = new Int32Array(slots);
    this.#merged = new Int32Array(count);
    this.#mask = slots - 1;
  }

  /** Adds the merge of a rank; of two merges of one pair, the later counts. */
  add(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#slot(left, right);
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#rank[slot] = rank;
    this.#merged[rank] = merged;
  }

  /** Rank of the merge of two ids, the lowest goes first; -1 where they do not merge. */
  rank(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#left[slot] === -1 ? -1 : (this.#rank[slot] as number);
  }

  /** What the merge of this rank makes. */
  merged(rank: number): number {
    return this.#merged[rank] as number;
  }

  #slot(left: number, right: number): number {
    const hash = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b);
    let slot = (hash ^ (hash >>> 15)) & this.#mask;
    while (this.#left[slot] !== -1 && (this.#left[slot] !== left || this.#right[slot] !== right)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }
}

// Below this many symbols, looking through all pairs is quicker than keeping a heap.
const FEW = 48;
// A place in a heap is one number: rank × PLACES + position.
const PLACES = 2 ** 26;

/**
 * Merges a word, given as ids of its smallest parts: the pair of the lowest rank first, the leftmost of equal ones.
 * Source: Hugging Face tokenizers, `models/bpe/word.rs`, `merge_all`.
 *
 * @param word is used up
 */
export function mergeWord(word: number[], merges: MergeTable): number[] {
  if (word.length <= FEW) return mergeFew(word, merges);
  const steps = mergeSteps(word, merges);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

function mergeFew(word: number[], merges: MergeTable): number[] {
  const ranks: number[] = [];
  for (let i = 0; i + 1 < word.length; i++) ranks.push(merges.rank(word[i] as number, word[i + 1] as number));
  for (;;) {
    let best = -1;
    for (let i = 0; i < ranks.length; i++) {
      const rank = ranks[i] as number;
      if (rank !== -1 && (best === -1 || rank < (ranks[best] as number))) best = i;
    }
    if (best === -1) return word;
    word[best] = merges.merged(ranks[best] as number);
    word.splice(best + 1, 1);
    ranks.splice(best, 1);
    if (best > 0) ranks[best - 1] = merges.rank(word[best - 1] as number, word[best] as number);
    if (best < ranks.length) ranks[best] = merges.rank(word[best] as number, word[best + 1] as number);
  }
}

/** Parts and merges between two chances of the caller to stop. */
export const BATCH = 4_096;

/** As `mergeWord`, for long words: the caller may stop between batches. */
export function* mergeSteps(
  word: readonly number[],
  merges: MergeTable,
): Generator<void, number[], undefined> {
  const { length } = word;
  const ids = new Int32Array(length);
  const previous = new Int32Array(length);
  const next = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    ids[i] = word[i] as number;
    previous[i] = i - 1;
    next[i] = i + 1;
    if (i % BATCH === 0) yield;
  }
  const heap = new Heap(length);
  const offer = (at: number) => {
    const after = next[at] as number;
    if (after >= length) return;
    const rank = merges.rank(ids[at] as number, ids[after] as number);
    if (rank !== -1) heap.push(rank * PLACES + at);
  };
  for (let i = 0; i + 1 < length; i++) {
    offer(i);
    if (i % BATCH === 0) yield;
  }
  let count = 0;
  for (let place = heap.pop(); place !== -1; place = heap.pop()) {
    const at = place % PLACES;
    const after = next[at] as number;
    if (++count % BATCH === 0) yield;
    // The pair may have gone into other merges meanwhile.
    if (ids[at] === -1 || after >= length) continue;
    const rank = merges.rank(ids[at] as number, ids[after] as number);
    const merged = merges.merged(Math.floor(place / PLACES));
    if (rank === -1 || merges.merged(rank) !== merged) continue;
    ids[at] = merged;
    ids[after] = -1;
    next[at] = next[after] as number;
    if ((next[at] as number) < length) previous[next[at] as number] = at;
    if ((previous[at] as number) >= 0) offer(previous[at] as number);
    offer(at);
  }
  const result: number[] = [];
  for (let i = 0; i < length; i = next[i] as number) {
    result.push(ids[i] as number);
    if (result.length % BATCH === 0) yield;
  }
  return result;
}

/** A binary heap of numbers, the lowest first. */
class Heap {
  #items: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.#items = new Float64Array(capacity);
  }

  push(item: number): void {
    if (this.#size === this.#items.length) {
      const larger = new Float64Array(2 * this.#size);
      larger.set(this.#items);
      this.#items = larger;
    }
    const items = this.#items;
    let at = this.#size++;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if ((items[above] as number) <= item) break;
      items[at] = items[above] as number;
      at = above;
    }
    items[at] = item;
  }

  /** The lowest, or -1 where there is none. */
  pop(): number {
    if (this.#size === 0) return -1;
    const items = this.#items;
    const lowest = items[0] as number;
    const last = items[--this.#size] as number;
    let at = 0;
    for (let below = 1; below < this.#size; below = 2 * at + 1) {
      if (below + 1 < this.#size && (items[below + 1] as number) < (items[below] as number)) below++;
      if ((items[below] as number) >= last) break;
      items[at] = items[below] as number;
      at = below;
    }
    items[at] = last;
    return lowest;
  }
}
