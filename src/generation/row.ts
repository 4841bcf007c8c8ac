import type { TokenConstraint } from './constraint.ts';
import type { TokenLogprobs } from './logprobs.ts';
import type { FinishReason } from './output.ts';
import type { Plan } from './plan.ts';
import type { Random } from './random.ts';
import { StopStringMatcher } from './stopping-criteria.ts';
import type { ThinkingBudget } from './thinking-budget.ts';
import type { ChoosingRow } from './token-choice.ts';

/** One row while it grows. */
export class Row implements ChoosingRow {
  readonly index: number;
  readonly tokens: number[];
  readonly promptLength: number;
  readonly seen: Set<number>;
  readonly counts: Map<number, number>;
  readonly random: Random;
  readonly constraint: TokenConstraint | undefined;
  readonly stop: StopStringMatcher | undefined;
  readonly logprobs: TokenLogprobs[] = [];
  readonly #thinking: ThinkingBudget | undefined;
  finish: FinishReason | undefined;
  readonly #plan: Plan;

  /**
   * @param index its place among the prompts
   * @param random where it draws from
   * @param twin a row that it begins as a copy of
   */
  constructor(plan: Plan, ids: readonly number[], index: number, random: Random, twin?: Row) {
    this.#plan = plan;
    this.index = index;
    this.tokens = [...ids];
    this.promptLength = twin?.promptLength ?? ids.length;
    this.seen = new Set(twin?.seen ?? ids);
    this.counts = new Map(twin?.counts);
    this.random = random;
    this.constraint = plan.constraint?.(index);
    this.#thinking = plan.thinking?.(ids);
    const { parameters, tokenizer } = plan;
    const { stopStrings } = parameters;
    if (tokenizer && stopStrings.length > 0) this.stop = new StopStringMatcher(tokenizer, stopStrings);
    for (const id of twin?.newTokens ?? []) this.stop?.push(id);
  }

  /** A row of the same tokens that goes its own way. Not with a constraint, whose state is not known here. */
  fork(): Row {
    return new Row(this.#plan, this.tokens, this.index, this.random, this);
  }

  /** The next token, where it is not to be chosen. */
  get forcedToken(): number | undefined {
    return this.#thinking?.forced;
  }

  get newTokens(): readonly number[] {
    return this.tokens.slice(this.promptLength);
  }

  /** Adds a new token. */
  push(token: number): void {
    this.tokens.push(token);
    this.seen.add(token);
    this.counts.set(token, (this.counts.get(token) ?? 0) + 1);
    this.constraint?.advance(token);
    this.#thinking?.push(token);
  }

  /** Its new text, without special tokens and without the stop string that ended it. */
  get text(): string {
    const { tokenizer, parameters } = this.#plan;
    const text = tokenizer?.decode(this.newTokens, { skipSpecialTokens: true, unknownIds: 'skip' }) ?? '';
    const at = this.stop?.matched && !parameters.includeStopStrings ? text.indexOf(this.stop.matched) : -1;
    return at === -1 ? text : text.slice(0, at);
  }
}
