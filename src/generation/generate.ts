import { AbortError, abortIf, InputError, onAbort } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateOptions } from './generate-options.ts';
import { IdsViews } from './ids-view.ts';
import type { GenerationConfig } from './parameters.ts';
import { makePlan, type Plan } from './plan.ts';
import type { Prompts } from './prompt.ts';
import { Random, randomSeed } from './random.ts';
import { StopStringMatcher } from './stopping-criteria.ts';
import { type ChoosingRow, TokenChoice } from './token-choice.ts';
import type { Decoding, Generator, Scores } from './types.ts';

/** Why a row ended: an end token, the token limit or the context, a stop string or criterion, or `maxTime`. */
export type FinishReason = 'eos' | 'length' | 'stop' | 'time';

export interface GenerateStats {
  /** Tokens of all prompts, without padding. */
  promptTokens: number;
  /** New tokens of all rows. */
  newTokens: number;
  /** Milliseconds the prompts took. */
  prefillMs: number;
  /** Milliseconds from the end of the prompts to the last token. */
  decodeMs: number;
  prefillTokensPerSecond: number;
  /** Tokens after the first of each row, per second of `decodeMs`. */
  decodeTokensPerSecond: number;
  /** Calls of MoE layers by experts backend. */
  expertsCalls: Readonly<Record<string, number>>;
}

export interface GenerateOutput {
  /**
   * Each row as given (with its padding), then its new tokens up to and including its end token. Rows may differ in
   * length; transformers instead fills them up with the pad token.
   */
  sequences: number[][];
  /** One a row. */
  finishReasons: FinishReason[];
  stats: GenerateStats;
}

/** What there was when a generation was aborted. */
export type PartialOutput = Pick<GenerateOutput, 'sequences' | 'stats'>;

/** A generation was ended through its signal. */
export class GenerationAbortError extends AbortError {
  /** Prompts and the tokens generated until then. */
  readonly partial: PartialOutput;

  constructor(partial: PartialOutput, cause: unknown) {
    super(`Generation was aborted after ${partial.stats.newTokens} new tokens`, { cause });
    this.partial = partial;
  }
}

/**
 * Generates text from prompts: prefill, then token by token until every row has ended.
 *
 * Parameters come from the call, else from `options.generationConfig`, else from `defaults` (generation_config.json),
 * else from transformers' defaults. A row depends on nothing but its own prompt, the parameters, the seed and its
 * position in the batch. Ties, filters and penalties follow transformers, except that padding is never penalised.
 *
 * @param prompts those of `options` where the model has checked them already, with what it may have put into them
 * @throws {InputError} an option or id is out of range or of the wrong type; nothing has run then.
 * @throws {GenerationAbortError} the signal fired.
 */
export async function generate(
  generator: Generator,
  defaults: GenerationConfig,
  options: GenerateOptions,
  prompts?: Prompts,
): Promise<GenerateOutput> {
  const plan = makePlan(generator, defaults, options, prompts);
  const run = new GenerationRun(plan);
  try {
    return await run.toEnd(generator);
  } catch (error) {
    const failure = plan.signal?.aborted ? run.aborted() : error;
    await endStreamer(plan, failure);
    throw failure;
  }
}

async function endStreamer({ streamer, signal }: Plan, failure: unknown): Promise<void> {
  try {
    const told = streamer?.fail ? streamer.fail(failure) : streamer?.end();
    await untilAborted(told, signal);
  } catch {
    // What ended the generation matters more, and may be this very streamer.
  }
}

/**
 * Waits for what a streamer returns, but not beyond the signal.
 * @throws AbortError once the signal has fired
 */
async function untilAborted(told: unknown, signal: AbortSignal | undefined): Promise<void> {
  if (typeof (told as PromiseLike<unknown> | undefined)?.then !== 'function') return;
  if (signal === undefined) return void (await told);
  let stop = () => {};
  const aborted = new Promise<void>((resolve) => {
    stop = onAbort(signal, resolve);
    if (signal.aborted) resolve();
  });
  try {
    await Promise.race([told, aborted]);
  } finally {
    stop();
  }
  abortIf(signal, 'generation');
}

/** One row while it grows. */
interface Row extends ChoosingRow {
  tokens: number[];
  seen: Set<number>;
  counts: Map<number, number>;
  stop: StopStringMatcher | undefined;
  finish: FinishReason | undefined;
}

class GenerationRun {
  readonly #plan: Plan;
  readonly #rows: Row[];
  readonly #choice: TokenChoice;
  /** What each stopping criterion sees. */
  readonly #views: readonly IdsViews[];
  readonly #pace = new Pace();
  readonly #started = performance.now();
  #prefillMs = 0;
  #decodeMs = 0;
  #expertsCalls: Readonly<Record<string, number>> = {};

  constructor(plan: Plan) {
    const { parameters, prompts } = plan;
    this.#plan = plan;
    this.#views = parameters.stoppingCriteria.map(() => new IdsViews());
    this.#choice = new TokenChoice(parameters, plan.vocabSize, plan.budget, plan.constraint !== undefined);
    const seed = parameters.seed ?? randomSeed();
    this.#rows = prompts.rows.map(({ ids }, index) => {
      const tokens = [...ids];
      const stop =
        parameters.stopStrings.length > 0
          ? new StopStringMatcher(plan.tokenizer as Tokenizer, parameters.stopStrings)
          : undefined;
      return {
        index,
        tokens,
        promptLength: tokens.length,
        seen: new Set(tokens),
        counts: new Map(),
        constraint: plan.constraint?.(index),
        random: new Random(seed, index),
        stop,
        finish: undefined,
      };
    });
  }

  async toEnd(generator: Generator): Promise<GenerateOutput> {
    const { streamer, prompts, budget, signal } = this.#plan;
    abortIf(signal, 'generation');
    if (streamer) await this.#stream(prompts.given[0] as readonly number[]);
    if (budget > 0) await this.#decode(generator);
    await untilAborted(streamer?.end(), signal);
    return { ...this.#output(), finishReasons: this.#rows.map((row) => row.finish ?? 'length') };
  }

  /** The error for an abort, with what there is. */
  aborted(): GenerationAbortError {
    return new GenerationAbortError(this.#output(), this.#plan.signal?.reason);
  }

  /** Hands a streamer ids of its own. */
  #stream(ids: readonly number[]): Promise<void> {
    return untilAborted(this.#plan.streamer?.put(ids.slice()), this.#plan.signal);
  }

  async #decode(generator: Generator): Promise<void> {
    const { signal, request } = this.#plan;
    abortIf(signal, 'generation');
    const decoding = await generator.openDecoding(request);
    try {
      const prefillStarted = performance.now();
      const scores = await decoding.prefill(this.#choice.candidates, signal);
      const decodeStarted = performance.now();
      this.#prefillMs = decodeStarted - prefillStarted;
      try {
        await this.#continue(decoding, scores);
      } finally {
        this.#decodeMs = performance.now() - decodeStarted;
      }
    } finally {
      this.#expertsCalls = { ...decoding.expertsCalls };
      decoding.dispose();
    }
  }

  /** Token by token, from what the prompts give until every row has ended. */
  async #continue(decoding: Decoding, first: Scores): Promise<void> {
    const { signal } = this.#plan;
    let scores = first;
    let live: readonly Row[] = this.#rows;
    for (;;) {
      abortIf(signal, 'generation');
      await this.#chooseTokens(scores, live);
      this.#endLateRows();
      live = live.filter((row) => row.finish === undefined);
      if (live.length === 0) return;
      abortIf(signal, 'generation');
      const rows = live.map(({ index }) => index);
      const tokens = live.map((row) => row.tokens.at(-1) as number);
      scores = await decoding.step(rows, tokens, this.#choice.candidates, signal);
    }
  }

  #endLateRows(): void {
    const { maxTime } = this.#plan.parameters;
    if (maxTime === undefined || (performance.now() - this.#started) / 1000 < maxTime) return;
    for (const row of this.#rows) row.finish ??= 'time';
  }

  /** Chooses and records the next token of rows that have not ended, whose scores lie in their order. */
  async #chooseTokens(scores: Scores, live: readonly Row[]): Promise<void> {
    const { streamer } = this.#plan;
    for (const [place, row] of live.entries()) {
      const token = await this.#choose(scores, place, row);
      row.tokens.push(token);
      row.seen.add(token);
      row.counts.set(token, (row.counts.get(token) ?? 0) + 1);
      row.constraint?.advance(token);
      if (streamer) await this.#stream([token]);
      row.finish = this.#finishOf(row, token);
      await this.#pace.breathe();
    }
  }

  #choose({ top, logits }: Scores, index: number, row: Row): Promise<number> {
    const ofRow = <T extends Float32Array | Int32Array>(all: T, width: number) =>
      all.subarray(index * width, (index + 1) * width) as T;
    const scores = {
      values: ofRow(top.values, top.count),
      ids: ofRow(top.ids, top.count),
      logits: async () => ofRow(await logits(), this.#plan.vocabSize),
    };
    return this.#choice.choose(scores, row);
  }

  #finishOf(row: Row, token: number): FinishReason | undefined {
    const { parameters, budget } = this.#plan;
    if (parameters.eosTokenIds.includes(token)) return 'eos';
    if (row.stop?.push(token) || row.constraint?.isComplete) return 'stop';
    if (this.#meetsCriterion(row)) return 'stop';
    return row.tokens.length - row.promptLength >= budget ? 'length' : undefined;
  }

  /** Criteria get ids of their own: how long a row is, is ours to know. */
  #meetsCriterion(row: Row): boolean {
    return this.#plan.parameters.stoppingCriteria.some((criterion, i) => {
      const answer: unknown = criterion((this.#views[i] as IdsViews).of(row), row.index);
      if (typeof (answer as PromiseLike<unknown> | undefined)?.then !== 'function') return answer;
      throw new InputError(`stoppingCriteria[${i}] returned a promise; expected true or false, at once`);
    });
  }

  #output(): PartialOutput {
    const { given } = this.#plan.prompts;
    const sequences = this.#rows.map((row, i) => [
      ...(given[i] as readonly number[]),
      ...row.tokens.slice(row.promptLength),
    ]);
    return { sequences, stats: this.#stats() };
  }

  #stats(): GenerateStats {
    const promptTokens = this.#rows.reduce((sum, row) => sum + row.promptLength, 0);
    const newTokens = this.#rows.reduce((sum, row) => sum + row.tokens.length - row.promptLength, 0);
    const perSecond = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0);
    return {
      promptTokens,
      newTokens,
      prefillMs: this.#prefillMs,
      decodeMs: this.#decodeMs,
      prefillTokensPerSecond: perSecond(promptTokens, this.#prefillMs),
      decodeTokensPerSecond: perSecond(Math.max(0, newTokens - this.#rows.length), this.#decodeMs),
      expertsCalls: this.#expertsCalls,
    };
  }
}

// Longest stretch of work between two turns of the event loop, a quarter of what callers may expect at most.
const BUSY_MS = 12;

/** Gives the event loop a turn now and then, also with a model that answers without one. */
class Pace {
  #since = performance.now();

  async breathe(): Promise<void> {
    if (performance.now() - this.#since < BUSY_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
