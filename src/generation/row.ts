import type { TokenConstraint } from './constraint.ts';
import type { TokenLogprobs } from './logprobs.ts';
import type { FinishReason } from './output.ts';
import type { Plan } from './plan.ts';
import { Random } from './random.ts';
import { StopStringMatcher } from './stopping-criteria.ts';
import type { ChoosingRow } from './token-choice.ts';

/** One row while it grows. */
export class Row implements ChoosingRow {
  readonly index: number;
  readonly tokens: number[];
  readonly promptLength: number;
  readonly seen: Set<number>;
  readonly counts = new Map<number, number>();
  readonly random: Random;
  readonly constraint: TokenConstraint | undefined;
  readonly stop: StopStringMatcher | undefined;
  readonly logprobs: TokenLogprobs[] = [];
  finish: FinishReason | undefined;

  /** @param seed of all rows of the generation */
  constructor(
    { parameters, tokenizer, constraint }: Plan,
    ids: readonly number[],
    index: number,
    seed: number,
  ) {
    this.index = index;
    this.tokens = [...ids];
    this.promptLength = ids.length;
    this.seen = new Set(ids);
    this.random = new Random(seed, index);
    this.constraint = constraint?.(index);
    const { stopStrings } = parameters;
    if (tokenizer && stopStrings.length > 0) this.stop = new StopStringMatcher(tokenizer, stopStrings);
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
  }

  /** Its new text, without special tokens and without the stop string that ended it. */
  text({ tokenizer, parameters }: Plan): string {
    const text = tokenizer?.decode(this.newTokens, { skipSpecialTokens: true, unknownIds: 'skip' }) ?? '';
    const at = this.stop?.matched && !parameters.includeStopStrings ? text.indexOf(this.stop.matched) : -1;
    return at === -1 ? text : text.slice(0, at);
  }
}
