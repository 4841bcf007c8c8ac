import type { CacheRow } from './cache/pool.ts';

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

/** One request in the engine: its tokens so far, how many of them have been computed, and what it holds of the cache. */
export class Sequence {
  readonly prompt: Prompt;
  readonly cache: CacheRow;
  /** Tokens whose keys and values the cache holds. */
  computed = 0;
  readonly #ids: number[];

  constructor(prompt: Prompt, cache: CacheRow) {
    this.prompt = prompt;
    this.cache = cache;
    this.#ids = [...prompt.ids];
  }

  /** Tokens so far, of the prompt and after it. */
  get length(): number {
    return this.#ids.length;
  }

  /** Tokens that a pass has still to compute. */
  get pending(): number {
    return this.#ids.length - this.computed;
  }

  /** Adds a token for the next pass. */
  append(id: number): void {
    this.#ids.push(id);
  }

  idAt(place: number): number {
    return this.#ids[place] as number;
  }

  /** Rotary position of the token at `place`. */
  positionAt(place: number, axis: number): number {
    const { positions, positionDelta = 0 } = this.prompt;
    return positions?.[axis]?.[place] ?? place + positionDelta;
  }
}
