/** Turns ids into text; `decode` of a tokenizer with its options fixed. */
export type Decode = (ids: readonly number[]) => string;

// Held-back ids are settled in part beyond this number, so that endless invalid bytes cannot pile up.
const MOST_HELD = 64;

/**
 * Decodes a growing sequence, one id at a time, into pieces of text that together equal the text of the whole.
 *
 * Text is held back while it ends in U+FFFD, which stands for a character whose last bytes have not come yet. Only the
 * ids since the last piece, and those of that piece as context, are decoded again, so the cost a token does not grow.
 */
export class Detokenizer {
  readonly #decode: Decode;
  #context: number[] = [];
  #contextText = '';
  #held: number[] = [];
  #pending = '';

  constructor(decode: Decode) {
    this.#decode = decode;
  }

  /** Text held back so far. */
  get pending(): string {
    return this.#pending;
  }

  /** Adds an id. Returns the text that is now certain, often empty. */
  push(id: number): string {
    this.#held.push(id);
    this.#pending = this.#decodeHeld(this.#held);
    if (!this.#pending.endsWith('\uFFFD')) return this.#settle(this.#held.length);
    if (this.#held.length <= MOST_HELD) return '';
    return this.#settle(this.#boundary());
  }

  /** Ends the sequence. Returns what was held back. */
  flush(): string {
    const text = this.#pending;
    this.#context = [];
    this.#contextText = '';
    this.#held = [];
    this.#pending = '';
    return text;
  }

  #decodeHeld(ids: readonly number[]): string {
    return this.#decode([...this.#context, ...ids]).slice(this.#contextText.length);
  }

  /** Gives out the text of the first `count` held ids; they become the context of the next. */
  #settle(count: number): string {
    const text = count === this.#held.length ? this.#pending : this.#decodeHeld(this.#held.slice(0, count));
    // A piece without text (a skipped special token) leaves the context alone: it would otherwise be lost.
    if (text === '' && this.#context.length < MOST_HELD) this.#context.push(...this.#held.splice(0, count));
    else this.#context = this.#held.splice(0, count);
    this.#contextText = this.#decode(this.#context);
    this.#pending = this.#pending.slice(text.length);
    return text;
  }

  /** The last place among the held ids where no character is cut: a character has at most four bytes. */
  #boundary(): number {
    for (let count = this.#held.length - 1; count > this.#held.length - 5; count--) {
      const parts = this.#decodeHeld(this.#held.slice(0, count)) + this.#decode(this.#held.slice(count));
      if (parts === this.#pending) return count;
    }
    return this.#held.length;
  }
}
