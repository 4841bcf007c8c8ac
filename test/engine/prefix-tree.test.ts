import { describe, expect, it } from 'vitest';
import { type PrefixNode, PrefixTree, type TokenKey } from '../../src/engine/cache/prefix-tree.ts';

const BLOCK = 4;

/** Counts who holds a block: 1 is its sequence. */
class Holders {
  readonly counts = new Map<number, number>();

  share(block: number): number {
    this.counts.set(block, (this.counts.get(block) ?? 0) + 1);
    return block;
  }

  give(block: number): void {
    this.counts.set(block, (this.counts.get(block) ?? 0) - 1);
  }

  isShared(block: number): boolean {
    return (this.counts.get(block) ?? 0) > 1;
  }
}

/** A tree, and sequences that put their blocks there, with numbers counted up. */
function setUp(most = 100) {
  const holders = new Holders();
  const tree = new PrefixTree(holders, BLOCK, most);
  let next = 0;
  /** Keeps a whole sequence, which has ended then; returns its blocks. */
  const keep = (tokens: readonly TokenKey[], kind = '') => {
    const blocks: number[] = [];
    let node: PrefixNode | undefined = tree.root(kind);
    for (let start = 0; start < tokens.length && node; start += BLOCK) {
      const block = holders.share(next++);
      blocks.push(block);
      node = tree.add(node, tokens.slice(start, start + BLOCK), block);
    }
    for (const block of blocks) holders.give(block);
    return blocks;
  };
  const match = (tokens: readonly TokenKey[], kind = '', length = tokens.length) => {
    const { blocks, tokens: count } = tree.match(
      tree.root(kind),
      (place) => tokens[place] as TokenKey,
      length,
    );
    return [count, ...blocks];
  };
  return { holders, tree, keep, match };
}

describe('a tree of prefixes', () => {
  it('knows whole blocks, and of the next one as many tokens as are the same', () => {
    const { keep, match } = setUp();
    const [a, b, c] = keep([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(match([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).toEqual([10, a, b, c]);
    expect(match([1, 2, 3, 4, 5, 6, 0, 0])).toEqual([6, a, b]);
    expect(match([1, 2, 3, 4, 0])).toEqual([4, a]);
    expect(match([0, 2, 3, 4])).toEqual([0]);
    expect(match([])).toEqual([0]);
  });

  it('gives no more tokens than are asked for', () => {
    const { keep, match } = setUp();
    const [a, b] = keep([1, 2, 3, 4, 5, 6, 7, 8]);
    const tokens = [1, 2, 3, 4, 5, 6, 7, 8];
    expect(match(tokens, '', 7)).toEqual([7, a, b]);
    expect(match(tokens, '', 4)).toEqual([4, a]);
    expect(match(tokens, '', -3)).toEqual([0]);
  });

  it('follows the branch that has most in common', () => {
    const { keep, match } = setUp();
    const [a, b] = keep([1, 2, 3, 4, 5, 6, 7, 8]);
    const [, c] = keep([1, 2, 3, 4, 5, 6, 0, 0]);
    expect(match([1, 2, 3, 4, 5, 6, 0, 1])).toEqual([7, a, c]);
    expect(match([1, 2, 3, 4, 5, 6, 7, 1])).toEqual([7, a, b]);
  });

  it('keeps kinds apart, and tokens that differ by more than their id', () => {
    const { keep, match } = setUp();
    keep([1, 2, 3, 4], 'eager');
    const [a] = keep([1, '2 x', 3, 4], 'grouped_mm');
    expect(match([1, 2, 3, 4], 'grouped_mm')).toEqual([1, a]);
    expect(match([1, '2 x', 3, 4], 'grouped_mm')).toEqual([4, a]);
    expect(match([1, '2 x', 3, 4], 'eager')[0]).toBe(1);
  });

  it('keeps one block for the same tokens, and replaces an end that has gone on', () => {
    const { holders, tree, keep, match } = setUp();
    const [a] = keep([1, 2, 3, 4]);
    const [again, end] = keep([1, 2, 3, 4, 5, 6]);
    expect(match([1, 2, 3, 4, 5, 6, 7])).toEqual([6, a, end]);
    const [, , whole] = [keep([1, 2, 3, 4]), ...keep([1, 2, 3, 4, 5, 6, 7, 8])];
    expect(match([1, 2, 3, 4, 5, 6, 7])).toEqual([7, a, whole]);
    expect(tree.size).toBe(2);
    for (const block of [again, end]) expect(holders.counts.get(block as number)).toBe(0);
    // A shorter end of what is known adds nothing.
    keep([1, 2, 3, 4, 5]);
    expect(tree.size).toBe(2);
  });

  it('lets go what was unused for longest, ends of paths first, and nothing that is in use', () => {
    const { holders, tree, keep, match } = setUp(4);
    const [a, b] = keep([1, 2, 3, 4, 5, 6, 7, 8]);
    const [c, d] = keep([9, 2, 3, 4, 5, 6, 7, 8]);
    match([1, 2, 3, 4]);
    const [e] = keep([20, 0, 0, 0]);
    expect(tree.blocks.sort()).toEqual([a, c, d, e].sort());
    expect(holders.counts.get(b as number)).toBe(0);
    holders.share(d as number);
    keep([21, 0, 0, 0]);
    keep([22, 0, 0, 0]);
    // d is used by a sequence, so c, on the way to it, stays too.
    expect(tree.blocks).toEqual(expect.arrayContaining([c, d]));
    expect(tree.size).toBe(4);
    holders.give(d as number);
    expect(tree.evict(100)).toBe(4);
    expect([...holders.counts.values()].every((count) => count === 0)).toBe(true);
  });

  it('keeps nothing without room, and nothing new while all is in use', () => {
    const { tree, keep, holders } = setUp(0);
    keep([1, 2, 3, 4]);
    expect(tree.size).toBe(0);
    const full = new PrefixTree(holders, BLOCK, 1);
    holders.share(50);
    expect(full.add(full.root(''), [1], 50)).toBeDefined();
    expect(full.add(full.root(''), [2], 51)).toBeUndefined();
  });

  it('holds what it should through random sequences', () => {
    const { holders, tree, keep, match } = setUp(12);
    let seed = 3;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const known: number[][] = [];
    for (let i = 0; i < 400; i++) {
      const from = random(2) === 0 ? (known[random(known.length || 1)] ?? []) : [];
      const tokens = [...from.slice(0, random(20)), ...Array.from({ length: random(14) }, () => random(3))];
      const [count, ...blocks] = match(tokens);
      expect(blocks).toHaveLength(Math.ceil((count as number) / BLOCK));
      keep(tokens);
      known.push(tokens);
      expect(tree.size).toBeLessThanOrEqual(12);
      const held = [...holders.counts].filter(([, holder]) => holder > 0).map(([block]) => block);
      expect(held.sort()).toEqual(tree.blocks.sort());
    }
  });
});

describe('a tree of a model with recurrent states', () => {
  /** @param most memory in blocks, of which a slot takes two */
  function setUpStates(most: number) {
    const [holders, slots] = [new Holders(), new Holders()];
    const states = {
      blocks: 2,
      share: (slot: number) => slots.share(slot),
      give: (slot: number) => slots.give(slot),
      isShared: (slot: number) => slots.isShared(slot),
    };
    const tree = new PrefixTree(holders, BLOCK, most, states);
    let next = 0;
    /** Keeps a whole sequence, with states after its last token and after the whole blocks that are named. */
    const keep = (tokens: readonly TokenKey[], after: readonly number[] = []) => {
      const blocks: number[] = [];
      let node: PrefixNode | undefined = tree.root('');
      let last = node;
      for (let start = 0; start < tokens.length && node; start += BLOCK) {
        blocks.push(holders.share(next++));
        node = tree.add(node, tokens.slice(start, start + BLOCK), blocks.at(-1) as number);
        if (!node) break;
        last = node;
        // A sequence goes on with the block that is known, as the engine's do.
        holders.give(blocks.pop() as number);
        blocks.push(holders.share(last.block));
        const isLast = start + BLOCK >= tokens.length;
        if (!isLast && !after.includes(blocks.length)) continue;
        const slot = slots.share(next++);
        tree.keepState(node, slot);
        slots.give(slot);
      }
      for (const block of blocks) holders.give(block);
      tree.prune(last);
    };
    const match = (tokens: readonly TokenKey[], length = tokens.length) => {
      const found = tree.match(tree.root(''), (place) => tokens[place] as TokenKey, length);
      return { ...found, counts: [found.tokens, found.blocks.length, found.common] };
    };
    return { tree, keep, match, holders, slots };
  }

  it('goes on from states only, whole ends of sequences too, and says what more is common', () => {
    const { keep, match } = setUpStates(100);
    keep([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1]);
    expect(match([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).counts).toEqual([10, 3, 10]);
    expect(match([1, 2, 3, 4, 5, 6, 7, 8, 9, 0]).counts).toEqual([4, 1, 9]);
    expect(match([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9).counts).toEqual([4, 1, 9]);
    expect(match([1, 2, 3, 0])).toMatchObject({ counts: [0, 0, 3], state: undefined });
  });

  it('lets go the states that nobody has gone on from for longest, and the blocks that led there', () => {
    const { tree, keep, match } = setUpStates(8);
    keep([1, 1, 1, 1, 1, 1, 1, 1], [1]);
    keep([2, 2, 2, 2]);
    expect(match([1, 1, 1, 1, 1, 1, 1, 1, 1]).counts).toEqual([8, 2, 8]);
    keep([3, 3, 3, 3]);
    // The state in the middle was the oldest, then that of the second sequence.
    expect(match([1, 1, 1, 1, 0]).counts).toEqual([0, 0, 4]);
    expect(match([2, 2, 2, 2]).counts).toEqual([0, 0, 0]);
    keep([4, 4, 4, 4]);
    expect(match([1, 1, 1, 1, 1, 1, 1, 1, 1]).counts).toEqual([0, 0, 0]);
    expect([tree.size, tree.stateCount]).toEqual([2, 2]);
  });

  it('holds no more than it may through random sequences, and nothing without a state below', () => {
    const { holders, slots, tree, keep, match } = setUpStates(20);
    let seed = 3;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const known: number[][] = [];
    for (let i = 0; i < 400; i++) {
      const from = random(2) === 0 ? (known[random(known.length || 1)] ?? []) : [];
      const tokens = [...from.slice(0, random(20)), ...Array.from({ length: random(14) }, () => random(3))];
      const { state, blocks, tokens: count } = match(tokens);
      expect(blocks).toHaveLength(Math.ceil(count / BLOCK));
      expect(state !== undefined).toBe(count > 0);
      keep(tokens, [random(4)]);
      known.push(tokens);
      expect(tree.size + 2 * tree.stateCount).toBeLessThanOrEqual(20);
      const held = ({ counts }: Holders) => [...counts].filter(([, n]) => n > 0).map(([piece]) => piece);
      expect(held(holders).sort()).toEqual(tree.blocks.sort());
      expect(held(slots).sort()).toEqual(tree.states.sort());
    }
    tree.evictStates(100);
    expect([tree.size, tree.stateCount]).toEqual([0, 0]);
  });
});
