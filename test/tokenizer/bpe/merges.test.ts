import { expect, it } from 'vitest';
import { MergeTable, mergeWord } from '../../../src/tokenizer/bpe/merges.ts';

/** As the definition has it: again and again the pair of the lowest rank, the leftmost of equal ones. */
function mergeSlowly(word: readonly number[], merges: MergeTable): number[] {
  const ids = [...word];
  for (;;) {
    let best = -1;
    let lowest = Number.POSITIVE_INFINITY;
    for (let i = 0; i + 1 < ids.length; i++) {
      const rank = merges.rank(ids[i] as number, ids[i + 1] as number);
      if (rank !== -1 && rank < lowest) [best, lowest] = [i, rank];
    }
    if (best === -1) return ids;
    ids.splice(best, 2, merges.merged(lowest));
  }
}

it('merges words of any length by rank, from the left', () => {
  let seed = 3;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 1;
    return seed % below;
  };
  for (let round = 0; round < 60; round++) {
    const letters = 2 + random(4);
    const count = 1 + random(40);
    const merges = new MergeTable(count);
    for (let rank = 0; rank < count; rank++) {
      // Several pairs may make the same token, and a pair may be listed twice.
      merges.add(random(letters + rank), random(letters + rank), rank, letters + random(rank + 1));
    }
    for (const length of [1, 2, 5, 47, 48, 49, 50, 130]) {
      const word = Array.from({ length }, () => random(letters));
      expect(mergeWord([...word], merges)).toEqual(mergeSlowly(word, merges));
    }
  }
});
