import type { Detokenizer } from '../tokenizer/detokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Ends a row when it returns true. Called after each new token with the row's ids, prompt included, padding not. */
export type StoppingCriterion = (tokens: readonly number[], row: number) => boolean;

/**
 * Watches the text of one row for stop strings. Only generated text counts, special tokens included.
 * Source: transformers `StopStringCriteria`, which also looks back into the prompt.
 */
export class StopStringMatcher {
  /** The stop string that came first, once one has come. */
  matched: string | undefined;
  readonly #stopStrings: readonly string[];
  readonly #detokenizer: Detokenizer;
  readonly #tailLength: number;
  #tail = '';

  constructor(tokenizer: Tokenizer, stopStrings: readonly string[]) {
    this.#stopStrings = stopStrings;
    this.#detokenizer = tokenizer.detokenizer();
    this.#tailLength = stopStrings.reduce((most, text) => Math.max(most, text.length), 0) - 1;
  }

  /** Adds a token. Returns whether a stop string is now complete. */
  push(id: number): boolean {
    const text = this.#tail + this.#detokenizer.push(id);
    // Text that is held back ends in half a character, but what stands before that may complete a stop string.
    const sofar = text + this.#detokenizer.pending;
    this.#tail = this.#tailLength > 0 ? text.slice(-this.#tailLength) : '';
    const found = this.#stopStrings
      .map((stop) => ({ stop, at: sofar.indexOf(stop) }))
      .filter(({ at }) => at !== -1)
      .sort((a, b) => a.at - b.at);
    this.matched = found[0]?.stop;
    return this.matched !== undefined;
  }
}
