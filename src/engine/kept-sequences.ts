import { InputError } from '../errors.ts';
import { blocksFor, type CachePool, type CacheRow } from './cache/pool.ts';
import type { TokenKey } from './cache/prefix-tree.ts';
import type { RowPart } from './cache/row-parts.ts';
import { disposedError } from './open-graph.ts';
import { type Prompt, Sequence } from './sequence.ts';
import type { Turns } from './turns.ts';

/** What a sequence has computed, kept for others to go on from. */
export interface KeptSequence {
  readonly row: CacheRow;
  readonly ids: readonly number[];
  /** What each token's keys and values follow from; see `Sequence.keyAt`. */
  readonly keys: readonly TokenKey[];
  /** Tokens that need not be computed again; fewer than there are where recurrent states could not be cut back. */
  readonly computed: number;
  /** What has computed all of it; see `PrefixPlace`. Undefined where it was more than one thing, or nobody knows. */
  readonly kind: string | undefined;
}

/** Sequences that are kept by somebody until they give them up. Nothing is computed on their rows: who goes on from one forks it. */
export class KeptSequences {
  readonly #pool: CachePool;
  readonly #turns: Turns;
  readonly #hasStates: boolean;

  /** @param turns those of the passes, while which nothing may move */
  constructor(pool: CachePool, turns: Turns, hasStates: boolean) {
    this.#pool = pool;
    this.#turns = turns;
    this.#hasStates = hasStates;
  }

  /** A kept sequence without tokens. */
  empty(): KeptSequence {
    return this.#keep(this.#pool.open(0), [], [], 0, undefined);
  }

  /**
   * A sequence that goes on from what is kept.
   * @param newTokens most tokens that will follow the prompt
   * @param kind what computes the rest; see `PrefixPlace`
   * @throws InputError where the prompt does not begin with the kept tokens
   */
  open(kept: KeptSequence, prompt: Prompt, newTokens: number, kind: string | undefined): Sequence {
    const limit = prompt.ids.length + newTokens;
    const computed = this.#usable(kept, prompt.ids.length);
    if (computed === 0) {
      const sequence = new Sequence(prompt, this.#pool.open(limit), kind);
      this.#check(kept, sequence);
      return sequence;
    }
    // What others may go on from is of one kind.
    const own = kind === kept.kind ? kind : undefined;
    const sequence = new Sequence(prompt, this.#pool.fork(kept.row, computed, limit), own);
    try {
      this.#check(kept, sequence);
    } catch (error) {
      this.#pool.close(sequence.cache);
      throw error;
    }
    sequence.takeUp(computed);
    return sequence;
  }

  /**
   * Keeps what a sequence, of which no pass is running, has computed; the sequence is at its end then.
   * @param kind what has computed all of it
   */
  take(sequence: Sequence, kind: string | undefined): KeptSequence {
    const { settled, cache, computed, isTorn } = sequence;
    const places = Array.from({ length: settled }, (_, place) => place);
    const ids = places.map((place) => sequence.idAt(place));
    const keys = places.map((place) => sequence.keyAt(place));
    const isWhole = !this.#hasStates || (!isTorn && settled === computed);
    if (isWhole) return this.#keep(cache, ids, keys, settled, kind);
    this.#pool.close(cache);
    return this.#keep(this.#pool.open(0), ids, keys, 0, undefined);
  }

  fork({ row, ids, keys, computed, kind }: KeptSequence): KeptSequence {
    return this.#keep(this.#pool.fork(row, computed), ids, keys, computed, kind);
  }

  /** The first tokens of a kept sequence, which is given up. A recurrent state cannot be cut back: then they are to be computed again. */
  truncate(kept: KeptSequence, length: number): KeptSequence {
    const computed = this.#hasStates && length < kept.computed ? 0 : Math.min(length, kept.computed);
    const row = computed > 0 ? this.#pool.fork(kept.row, computed) : this.#pool.open(0);
    this.#pool.close(kept.row);
    return this.#keep(row, kept.ids.slice(0, length), kept.keys.slice(0, length), computed, kept.kind);
  }

  /** Gives up what is kept. Idempotent. */
  release({ row }: KeptSequence): void {
    this.#pool.close(row);
    if (this.#pool.isTooLarge) this.#turns.take(() => this.#pool.trim()).catch(() => {});
  }

  /** The tensors of a sequence with so many computed tokens. */
  partsOf(computed: number): RowPart[] {
    return computed > 0 ? this.#pool.partsOf(computed) : [];
  }

  /** The bytes of one of them. */
  read({ row, computed }: KeptSequence, part: RowPart): Promise<Uint8Array> {
    return this.#take(() => this.#pool.readPart(row, computed, part));
  }

  /**
   * A sequence that has been computed elsewhere; its tensors are to be written then.
   * @throws EngineError where there is no room, or the model was disposed of
   */
  async make(ids: readonly number[], keys: readonly TokenKey[], computed: number): Promise<KeptSequence> {
    const row = this.#pool.open(blocksFor(computed));
    try {
      if (computed > 0)
        await this.#take(() => this.#pool.reserve([{ row, computed: 0, positions: computed }]));
    } catch (error) {
      this.#pool.close(row);
      throw error;
    }
    return this.#keep(row, ids, keys, computed, undefined);
  }

  write({ row, computed }: KeptSequence, part: RowPart, bytes: Uint8Array): Promise<void> {
    return this.#take(() => this.#pool.writePart(row, computed, part, bytes));
  }

  /** @throws EngineError after the model was disposed of */
  #take<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      if (this.#pool.isDisposed) throw disposedError();
      return work();
    });
  }

  #keep(
    row: CacheRow,
    ids: readonly number[],
    keys: readonly TokenKey[],
    computed: number,
    kind: string | undefined,
  ): KeptSequence {
    this.#pool.rest(row);
    return { row, ids, keys, computed, kind };
  }

  /** Of a prompt at least the last token is computed, for its scores. */
  #usable({ computed }: KeptSequence, length: number): number {
    if (computed < length) return computed;
    return this.#hasStates ? 0 : length - 1;
  }

  #check({ keys, ids }: KeptSequence, sequence: Sequence): void {
    if (sequence.length < keys.length)
      throw new InputError(
        `cache holds ${keys.length} tokens, but the prompt has only ${sequence.length}. Cut the cache with truncate(${sequence.length})`,
      );
    const place = keys.findIndex((key, at) => key !== sequence.keyAt(at));
    if (place < 0) return;
    const [had, has] = [ids[place], sequence.idAt(place)];
    const what =
      had === has
        ? `stands for another picture or position`
        : `is ${had} in the cache and ${has} in the prompt`;
    throw new InputError(
      `cache holds another beginning than the prompt's: token ${place} ${what}. Cut the cache with truncate(${place}), or use another`,
    );
  }
}
