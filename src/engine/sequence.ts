import { createHash } from 'node:crypto';
import type { CacheRow } from './cache/pool.ts';
import type { PrefixPlace, TokenKey } from './cache/prefix-tree.ts';
import type { SequenceRouting } from './sequence-routing.ts';

/** What the vision tower makes of the pictures of one prompt, in the order of their placeholders. */
export interface VisualFeatures {
  /** Replaces the placeholders' embeddings, fp32 [placeholders, hidden]. */
  readonly embeds: Float32Array;
  /** Added to the placeholders' hidden states after the first layers, fp32 [placeholders, hidden] each. */
  readonly deepstack: readonly Float32Array[];
}

/** One prompt, checked and without padding. */
export interface Prompt {
  readonly ids: readonly number[];
  /** Position of every token on each rotary axis; without it a token's position is its place. */
  readonly positions?: readonly ArrayLike<number>[];
  /** Position minus place, for tokens after the prompt. */
  readonly positionDelta?: number;
  /** Places of placeholders, ascending, and what stands for them. */
  readonly visual?: { readonly places: readonly number[]; readonly features: VisualFeatures };
}

/** The place of a sequence of which nothing is computed. */
const START: Omit<PrefixPlace, 'kind'> = {
  node: undefined,
  blocks: 0,
  stops: [],
  recent: [],
  last: undefined,
};

let opened = 0;

/** One request in the engine: its tokens so far, how many of them have been computed, and what it holds of the cache. */
export class Sequence {
  readonly prompt: Prompt;
  readonly cache: CacheRow;
  /** Those that were opened earlier have lower ones; a fork has that of the sequence it goes on from. */
  readonly age: number;
  /** Tokens whose keys and values the cache holds. */
  computed = 0;
  /** Where it is among the sequences that may share what they compute; undefined where it is none of them. */
  readonly prefix: PrefixPlace | undefined;
  /** Of how many of its last tokens the scores are asked for. */
  scored = 1;
  /** Whether a pass over it has failed: recurrent states may have taken in tokens that do not count as computed. */
  isTorn = false;
  /** The experts of its tokens, where they are asked for. */
  routed: SequenceRouting | undefined;
  /** Whether it holds what it has of the cache until it is closed, whoever else needs room. */
  isPinned = false;
  readonly #ids: number[];
  /** How many of its last tokens may be taken back. */
  #guesses = 0;
  #cachedTokens = 0;
  /** Tokens that others have computed for it. */
  #taken = 0;
  #isAgain = false;

  /** @param kind what computes it; see `PrefixPlace` */
  constructor(prompt: Prompt, cache: CacheRow, kind?: string, age = ++opened) {
    this.prompt = prompt;
    this.cache = cache;
    this.age = age;
    this.prefix = kind === undefined ? undefined : { kind, ...START };
    this.#ids = [...prompt.ids];
  }

  /** Tokens of its prompt that were computed before it began. */
  get cachedTokens(): number {
    return this.#cachedTokens;
  }

  /** A sequence of the same tokens. @param cache holds what the cache of this one does */
  fork(cache: CacheRow): Sequence {
    const fork = new Sequence(this.prompt, cache, this.prefix?.kind, this.age);
    for (let at = this.prompt.ids.length; at < this.#ids.length; at++)
      fork.#ids.push(this.#ids[at] as number);
    fork.takeUp(this.computed);
    fork.routed = this.routed?.fork();
    Object.assign(fork.prefix ?? {}, this.prefix);
    return fork;
  }

  /** Its first tokens have been computed by others. */
  takeUp(tokens: number): void {
    this.computed = tokens;
    this.#taken = tokens;
    if (!this.#isAgain) this.#cachedTokens = tokens;
  }

  /** Whether something was computed for it that it has not taken from others. */
  get hasComputed(): boolean {
    return this.computed > this.#taken;
  }

  /** Whether it has ever lost what it had of the cache. */
  get hasGivenWay(): boolean {
    return this.#isAgain;
  }

  /** It has lost what it had of the cache, and all of its tokens are to be computed again. */
  beginAgain(): void {
    this.computed = 0;
    this.#taken = 0;
    this.isTorn = false;
    this.#isAgain = true;
    if (this.prefix) Object.assign(this.prefix, START);
  }

  /** Tokens so far, of the prompt and after it. */
  get length(): number {
    return this.#ids.length;
  }

  /** Tokens that a pass has still to compute. */
  get pending(): number {
    return this.#ids.length - this.computed;
  }

  /** Of these, the ones that the next pass may take: it ends where a state is to be kept. */
  get due(): number {
    const stop = this.prefix?.stops.find((place) => place > this.computed) ?? this.length;
    // Tokens whose scores are wanted together come in one pass, after all the others.
    const first = this.length - this.scored;
    const end = this.scored > 1 && this.computed < first ? first : this.length;
    return Math.min(stop, end) - this.computed;
  }

  /** Computed tokens that stay, whatever becomes of the guesses. */
  get settled(): number {
    return Math.min(this.computed, this.#ids.length - this.#guesses);
  }

  /** Adds a token for the next pass. */
  append(id: number): void {
    this.#ids.push(id);
    this.#guesses = 0;
  }

  /** Adds tokens for the next pass that may be taken back after it. */
  guess(ids: readonly number[]): void {
    for (const id of ids) this.#ids.push(id);
    this.#guesses = ids.length;
  }

  /** Drops the last tokens, which are guesses, and makes the others certain. Not where a state has taken them in. */
  takeBack(count: number): void {
    this.#ids.length -= count;
    this.computed = Math.min(this.computed, this.#ids.length);
    this.#guesses = 0;
  }

  idAt(place: number): number {
    return this.#ids[place] as number;
  }

  /** Rotary position of the token at `place`. */
  positionAt(place: number, axis: number): number {
    const { positions, positionDelta = 0 } = this.prompt;
    return positions?.[axis]?.[place] ?? place + positionDelta;
  }

  /** What the keys and values of the token at `place` follow from, besides those before it. */
  keyAt(place: number): TokenKey {
    const id = this.idAt(place);
    const { positions, positionDelta, visual } = this.prompt;
    if (!positions && !positionDelta && !visual) return id;
    const axes = Array.from({ length: positions?.length ?? 1 }, (_, axis) => this.positionAt(place, axis));
    const feature = visual && featureHashes(visual).get(place);
    return [id, ...axes, ...(feature ? [feature] : [])].join(' ');
  }
}

type Visual = NonNullable<Prompt['visual']>;
const hashed = new WeakMap<Visual, ReadonlyMap<number, string>>();

/** Of what stands for each placeholder, by its place. */
function featureHashes(visual: Visual): ReadonlyMap<number, string> {
  const known = hashed.get(visual);
  if (known) return known;
  const { places, features } = visual;
  const hashOf = (index: number) => {
    const hash = createHash('sha256');
    for (const { buffer, byteOffset, byteLength } of [features.embeds, ...features.deepstack]) {
      const bytes = byteLength / places.length;
      hash.update(new Uint8Array(buffer, byteOffset + index * bytes, bytes));
    }
    return hash.digest('base64');
  };
  const hashes = new Map(places.map((place, index) => [place, hashOf(index)]));
  hashed.set(visual, hashes);
  return hashes;
}
