/** What others may wait for a part of somebody's prompt, in milliseconds. */
const TARGET_MS = 250;
const LEAST_TOKENS = 32;
/** Before anything was measured. */
const UNMEASURED_TOKENS = 128;
/** Weight of the newest measure. */
const NEWEST = 0.3;
/** Passes of fewer tokens say nothing about prompts. */
const PROMPT_TOKENS = 16;

/** How many tokens of prompts a pass takes beside decoding rows: as many as this machine computes in {@link TARGET_MS}. */
export class PromptPace {
  readonly #most: number;
  #tokensPerMs: number | undefined;

  /** @param most tokens of a pass */
  constructor(most: number) {
    this.#most = most;
  }

  get tokens(): number {
    if (this.#tokensPerMs === undefined) return UNMEASURED_TOKENS;
    return Math.max(LEAST_TOKENS, Math.min(this.#most, Math.floor(TARGET_MS * this.#tokensPerMs)));
  }

  /** A pass of so many tokens took so long. */
  passed(tokens: number, milliseconds: number): void {
    if (tokens < PROMPT_TOKENS || milliseconds <= 0) return;
    const rate = tokens / milliseconds;
    this.#tokensPerMs =
      this.#tokensPerMs === undefined ? rate : this.#tokensPerMs + NEWEST * (rate - this.#tokensPerMs);
  }
}
