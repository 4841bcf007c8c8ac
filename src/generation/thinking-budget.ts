import { InputError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Follows the reasoning of one row, and says how it goes on once it has had so many tokens: with the tag that closes it. */
export class ThinkingBudget {
  readonly #open: number;
  readonly #close: number;
  readonly #budget: number;
  #state: 'before' | 'inside' | 'over';
  #tokens = 0;

  constructor(tags: { open: number; close: number }, budget: number, start: 'before' | 'inside' | 'none') {
    this.#open = tags.open;
    this.#close = tags.close;
    this.#budget = budget;
    this.#state = start === 'none' ? 'over' : start;
  }

  /** The token that has to come now, if the budget is used up. */
  get forced(): number | undefined {
    return this.#state === 'inside' && this.#tokens >= this.#budget ? this.#close : undefined;
  }

  push(token: number): void {
    if (token === this.#close) this.#state = 'over';
    else if (this.#state === 'inside') this.#tokens++;
    else if (this.#state === 'before' && token === this.#open) this.#state = 'inside';
  }
}

/** Makes a row's, by its prompt. @throws InputError for a tokenizer whose model does not reason */
export function thinkingBudgets(
  budget: number | undefined,
  tokenizer: Tokenizer | undefined,
  startOf: (tokenizer: Tokenizer, prompt: readonly number[]) => 'before' | 'inside' | 'none',
): ((prompt: readonly number[]) => ThinkingBudget) | undefined {
  if (budget === undefined) return undefined;
  if (!tokenizer)
    throw new InputError(
      'thinkingBudget needs the tokenizer: pass it as the option tokenizer, or leave it out',
    );
  const { reasoning } = tokenizer.responseStyle;
  const [open, close] = [reasoning?.open, reasoning?.close].map((tag) => tag && tokenizer.tokenToId(tag));
  if (typeof open !== 'number' || typeof close !== 'number')
    throw new InputError(
      'thinkingBudget: the tokenizer has no tokens that open and close reasoning. Leave it out',
    );
  return (prompt) => new ThinkingBudget({ open, close }, budget, startOf(tokenizer, prompt));
}
