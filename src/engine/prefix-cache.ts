import { BLOCK_POSITIONS, type CachePool } from './cache/pool.ts';
import type { PrefixNode } from './cache/prefix-tree.ts';
import type { Sequence } from './sequence.ts';

/**
 * Tokens of a sequence that are computed even where they are known: attention adds up few queries in another order than many, and as many
 * come together here as when the whole prompt does.
 */
const COMPUTED_TOKENS = 33;

/** Lets sequences begin with what others have computed, and keeps what they compute. Whoever calls must see to it that no pass is running. */
export class PrefixCache {
  readonly #pool: CachePool;

  constructor(pool: CachePool) {
    this.#pool = pool;
  }

  /** Gives a sequence of which nothing is computed what is known of it. */
  begin(sequence: Sequence): void {
    const { prefix, cache, length } = sequence;
    if (!prefix || sequence.computed > 0) return;
    const { prefixes } = this.#pool;
    const keyAt = (place: number) => sequence.keyAt(place);
    const { node, blocks, tokens } = prefixes.match(
      prefixes.root(prefix.kind),
      keyAt,
      length - COMPUTED_TOKENS,
    );
    prefix.node = node;
    if (tokens < BLOCK_POSITIONS) return;
    this.#pool.adopt(cache, blocks);
    prefix.blocks = Math.floor(tokens / BLOCK_POSITIONS);
    sequence.takeUp(tokens);
  }

  /** Keeps the blocks that have become whole. @param kind of the pass that has computed the last tokens */
  keep(sequence: Sequence, kind: string): void {
    const { prefix, settled } = sequence;
    if (!prefix?.node) return;
    if (prefix.kind !== kind) prefix.node = undefined;
    while (prefix.node && settled >= (prefix.blocks + 1) * BLOCK_POSITIONS) {
      prefix.node = this.#add(sequence, prefix.node, prefix.blocks, BLOCK_POSITIONS);
      prefix.blocks++;
    }
  }

  /** Keeps the last block of a sequence that ends, too. */
  end(sequence: Sequence): void {
    const { prefix, settled } = sequence;
    if (!prefix?.node || settled === 0) return;
    const tokens = settled - prefix.blocks * BLOCK_POSITIONS;
    if (tokens > 0) this.#add(sequence, prefix.node, prefix.blocks, tokens);
    prefix.node = undefined;
  }

  /** @returns the node of the sequence's block `index`, which may be another now, of the same tokens */
  #add(sequence: Sequence, node: PrefixNode, index: number, tokens: number): PrefixNode | undefined {
    const keys = Array.from({ length: tokens }, (_, i) => sequence.keyAt(index * BLOCK_POSITIONS + i));
    const added = this.#pool.prefixes.add(node, keys, sequence.cache.blocks[index] as number);
    if (added && tokens === BLOCK_POSITIONS) this.#pool.adopt(sequence.cache, [added.block], index);
    return added;
  }
}
