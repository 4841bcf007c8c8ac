import { BLOCK_POSITIONS, type CachePool } from './cache/pool.ts';
import type { PrefixNode, PrefixPlace, RecentState } from './cache/prefix-tree.ts';
import type { Sequence } from './sequence.ts';

/**
 * Tokens of a sequence that are computed even where they are known: attention adds up few queries in another order than many, and as many
 * come together here as when the whole prompt does.
 */
const COMPUTED_TOKENS = 33;

/** A pass ends within a prompt, for the states there to be kept, where that may spare others so many tokens: it costs a pass more. */
const SPARED_TOKENS = 256;

/** States after whole blocks that are kept of a sequence past its prompt. With two, one has {@link COMPUTED_TOKENS} behind it. */
const RECENT_STATES = 2;

/** Lets sequences begin with what others have computed, and keeps what they compute. Whoever calls must see to it that no pass is running. */
export class PrefixCache {
  readonly #pool: CachePool;

  constructor(pool: CachePool) {
    this.#pool = pool;
  }

  /**
   * Gives a sequence of which nothing is computed what is known of it. One that goes on from what somebody keeps has its blocks known from
   * now on.
   */
  begin(sequence: Sequence): void {
    const { prefix, cache, length, computed } = sequence;
    if (!prefix) return;
    const { prefixes } = this.#pool;
    if (computed > 0) {
      if (prefix.last) return;
      prefix.node = prefixes.root(prefix.kind);
      prefix.last = prefix.node;
      prefix.stops = this.#stops([length - COMPUTED_TOKENS], computed);
      this.keep(sequence, prefix.kind);
      return;
    }
    const keyAt = (place: number) => sequence.keyAt(place);
    const most = length - COMPUTED_TOKENS;
    const { node, blocks, tokens, state, common } = prefixes.match(prefixes.root(prefix.kind), keyAt, most);
    prefix.node = node;
    prefix.last = node;
    // Next to where the prompt ends another may go on, and where it leaves others, a third may do so.
    prefix.stops = this.#stops([common, most], tokens);
    if (tokens < BLOCK_POSITIONS) return;
    this.#pool.adopt(cache, blocks);
    if (state !== undefined) this.#pool.adoptState(cache, state);
    prefix.blocks = Math.floor(tokens / BLOCK_POSITIONS);
    sequence.takeUp(tokens);
  }

  /** Of some places the ends of blocks before them, where passes are to end that begin with so many computed tokens. */
  #stops(places: readonly number[], computed: number): number[] {
    if (!this.#pool.prefixes.keepsStates) return [];
    const ends = places.map((place) => place - (place % BLOCK_POSITIONS));
    return ends.filter((place) => place >= computed + SPARED_TOKENS);
  }

  /** Keeps the blocks that have become whole. @param kind of the pass that has computed the last tokens */
  keep(sequence: Sequence, kind: string): void {
    const { prefix, settled } = sequence;
    if (!prefix?.node) return;
    if (prefix.kind !== kind) prefix.node = undefined;
    while (prefix.node && settled >= (prefix.blocks + 1) * BLOCK_POSITIONS) {
      prefix.node = this.#add(sequence, prefix.node, prefix.blocks, BLOCK_POSITIONS);
      prefix.last = prefix.node ?? prefix.last;
      prefix.blocks++;
    }
    if (this.#pool.prefixes.keepsStates) this.#keepState(sequence);
  }

  /** Ends a sequence, and keeps its last block, too. */
  close(sequence: Sequence): void {
    this.end(sequence);
    this.#pool.close(sequence.cache);
    this.prune(sequence);
  }

  /** Has a sequence give up what it holds, as if it had ended, to begin again later. */
  preempt(sequence: Sequence): void {
    this.end(sequence);
    this.#pool.empty(sequence.cache);
    this.prune(sequence);
    sequence.beginAgain();
  }

  /** Gives back what a closed sequence has left that nobody can go on from. */
  prune({ prefix }: Sequence): void {
    if (prefix?.last) this.#pool.prefixes.prune(prefix.last);
  }

  /** Keeps the last block of a sequence that computes no more. */
  end(sequence: Sequence): void {
    const { prefix, settled, computed, isTorn } = sequence;
    const { prefixes } = this.#pool;
    if (!prefix?.node || settled === 0) return;
    if (prefixes.keepsStates && (isTorn || settled < computed)) return;
    const tokens = settled - prefix.blocks * BLOCK_POSITIONS;
    const node = tokens > 0 ? this.#add(sequence, prefix.node, prefix.blocks, tokens) : prefix.node;
    if (node?.parent && prefixes.keepsStates) {
      this.#dropRecent(prefix, settled);
      prefixes.keepState(node, sequence.cache.slot);
    }
    prefix.node = undefined;
  }

  /** Keeps the states after a whole block, where a stop was made for them or the sequence is past its prompt. */
  #keepState({ prefix, prompt, computed, settled, cache }: Sequence): void {
    if (!prefix?.node || computed !== settled || computed !== prefix.blocks * BLOCK_POSITIONS) return;
    const { prefixes } = this.#pool;
    const { node, stops } = prefix;
    if (stops.includes(computed)) prefixes.keepState(node, cache.slot);
    if (computed <= prompt.ids.length || prefix.recent.at(-1)?.end === computed) return;
    prefixes.keepState(node, cache.slot);
    const recent = [...prefix.recent, { node, end: computed }];
    if (recent.length > RECENT_STATES) prefixes.dropState((recent.shift() as RecentState).node);
    prefix.recent = recent;
  }

  /** Of the states past the prompt, keeps the last that will have enough tokens behind it as soon as the sequence goes on. */
  #dropRecent({ recent }: PrefixPlace, length: number): void {
    const kept = recent.findLast(({ end }) => end <= length + 1 - COMPUTED_TOKENS);
    for (const state of recent) if (state !== kept) this.#pool.prefixes.dropState(state.node);
  }

  /** @returns the node of the sequence's block `index`, which may be another now, of the same tokens */
  #add(sequence: Sequence, node: PrefixNode, index: number, tokens: number): PrefixNode | undefined {
    const keys = Array.from({ length: tokens }, (_, i) => sequence.keyAt(index * BLOCK_POSITIONS + i));
    const added = this.#pool.prefixes.add(node, keys, sequence.cache.blocks[index] as number);
    if (added && tokens === BLOCK_POSITIONS) this.#pool.adopt(sequence.cache, [added.block], index);
    return added;
  }
}
