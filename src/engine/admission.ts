import { EngineError } from '../errors.ts';
import type { CachePool, Reservation } from './cache/pool.ts';
import type { PrefixCache } from './prefix-cache.ts';
import type { Sequence } from './sequence.ts';

/** Sequences of a request that a pass is to serve. */
export interface Group<T> {
  readonly of: T;
  /** Those that have tokens in the pass. */
  readonly sequences: readonly Sequence[];
  /** All of the request: they have room at the same time, so that none of them gives way to another. */
  readonly together: readonly Sequence[];
}

/**
 * Who has room in a cache that is bounded. Where it is full, the youngest sequences give up what they hold and are computed again later, so
 * that the oldest always go on. Whoever calls must see to it that no pass is running.
 */
export class Admission {
  /** How often sequences have given up what they held. */
  preemptions = 0;
  readonly #pool: CachePool;
  readonly #prefixes: PrefixCache;
  readonly #open = new Set<Sequence>();

  constructor(pool: CachePool, prefixes: PrefixCache) {
    this.#pool = pool;
    this.#prefixes = prefixes;
  }

  opened(sequence: Sequence): void {
    this.#open.add(sequence);
  }

  closed(sequence: Sequence): void {
    this.#open.delete(sequence);
  }

  /**
   * Those of some groups of sequences for which there is room, all of a group or none of it: the oldest group first, for which younger ones give
   * way, and at least one of them if that is possible at all.
   */
  admit<T>(groups: readonly Group<T>[]): T[] {
    const byAge = groups
      .map((group) => ({ ...group, age: ageOf(group.together) }))
      .sort((a, b) => a.age - b.age);
    const admitted: Sequence[] = [];
    const kept: Sequence[] = [];
    const all: T[] = [];
    const begun = new Set(groups.flatMap(({ sequences }) => sequences.filter(holds)));
    for (const { of, sequences, together, age } of byAge) {
      // What has just given way begins again with another pass.
      const gaveWay = sequences.some((sequence) => begun.has(sequence) && !holds(sequence));
      // Without anybody, even older ones give way that take no part: nobody knows when they will.
      if (
        gaveWay ||
        !this.#makeRoom([...admitted, ...sequences], all.length > 0 ? age : -1, [...kept, ...together])
      ) {
        // What it would go on from is in nobody's way.
        for (const sequence of sequences) if (!sequence.hasComputed) this.#prefixes.preempt(sequence);
        continue;
      }
      admitted.push(...sequences);
      kept.push(...together);
      all.push(of);
    }
    if (all.length === 0 && groups.length > 0 && !this.#isWaitingWorth) throw this.#full();
    return groups.map((group) => group.of).filter((of) => all.includes(of));
  }

  /** Whether what is in the way will end by itself. */
  get #isWaitingWorth(): boolean {
    return [...this.#open].some(({ isPinned }) => isPinned);
  }

  #full(): EngineError {
    return new EngineError(
      'the cache is full of sequences that are kept, and maxCacheBytes allows no more. Dispose of caches made with createCache, or raise it',
    );
  }

  /** Makes room for sequences that have to run now, whoever else must give way. */
  makeRoom(sequences: readonly Sequence[]): boolean {
    return this.#makeRoom(sequences, -1, sequences);
  }

  /**
   * @param age only younger ones give way
   * @param kept none of which gives way
   */
  #makeRoom(sequences: readonly Sequence[], age: number, kept: readonly Sequence[]): boolean {
    const wanted = sequences.map(reservationOf);
    if (this.#pool.fits(wanted)) return true;
    const needed = new Set(kept);
    const youngestFirst = [...this.#open].reverse().sort((a, b) => b.age - a.age);
    for (const sequence of youngestFirst) {
      if (sequence.age <= age) break;
      if (needed.has(sequence) || sequence.isPinned || !holds(sequence)) continue;
      if (sequence.hasComputed) this.preemptions++;
      this.#prefixes.preempt(sequence);
      if (this.#pool.fits(wanted)) return true;
    }
    return false;
  }
}

/** What a sequence needs for all of its tokens so far. */
export function reservationOf({ cache, computed, length }: Sequence): Reservation {
  return { row: cache, computed, positions: length };
}

/** Of a request: that of the oldest of its sequences. */
export function ageOf(sequences: readonly Sequence[]): number {
  return Math.min(...sequences.map(({ age }) => age));
}

function holds({ cache }: Sequence): boolean {
  return cache.blocks.length > 0 || cache.slot >= 0;
}
