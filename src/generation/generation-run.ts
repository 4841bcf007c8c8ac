import { abortIf, InputError } from '../errors.ts';
import { disownPromise } from './disown.ts';
import { IdsViews } from './ids-view.ts';
import type { TokenLogprobs } from './logprobs.ts';
import {
  type FinishReason,
  type GenerateOutput,
  type GenerateStats,
  GenerationAbortError,
  type PartialOutput,
} from './output.ts';
import { Pace } from './pace.ts';
import { DEFAULT_NEW_TOKENS } from './parameters.ts';
import type { Plan } from './plan.ts';
import { Random, randomSeed } from './random.ts';
import { Row } from './row.ts';
import { untilAborted } from './streaming.ts';
import type { Decoding, Generator, PromptRow, RowRouting, Scores } from './types.ts';

/** How tokens follow from scores: runs the prompts with `run.prefill`, then steps, until every row has ended. */
export type Strategy = (run: GenerationRun, decoding: Decoding) => Promise<void>;

const CUT = `generation stopped after ${DEFAULT_NEW_TOKENS} new tokens, the limit where none is set; maxNewTokens (-n) sets another`;

/** One call of `generate` while it runs: its rows, its clock, and what it tells. */
export class GenerationRun {
  readonly plan: Plan;
  /** In the order of the output. */
  rows: readonly Row[];
  /** Of beams: a score for each row. */
  sequencesScores: readonly number[] | undefined;
  /** What each stopping criterion sees. */
  readonly #views: readonly IdsViews[];
  readonly #pace = new Pace();
  readonly #started = performance.now();
  #prefillMs = 0;
  #decodeMs = 0;
  #cachedTokens = 0;
  #drafts = { drafted: 0, accepted: 0 };
  #expertsCalls: Readonly<Record<string, number>> = {};
  #routing: readonly (RowRouting | undefined)[] = [];

  constructor(plan: Plan) {
    this.plan = plan;
    this.#views = plan.parameters.stoppingCriteria.map(() => new IdsViews());
    const seed = plan.parameters.seed ?? randomSeed();
    this.rows = plan.parents.map((prompt, index) => {
      const { ids } = plan.prompts.rows[prompt] as PromptRow;
      return new Row(plan, ids, index, new Random(seed, index));
    });
  }

  async toEnd(generator: Generator, strategy: Strategy): Promise<GenerateOutput> {
    const { streamer, prompts, budget, signal, parameters } = this.plan;
    abortIf(signal, 'generation');
    await this.#begin();
    if (streamer) await this.#stream(prompts.given[0] as readonly number[]);
    if (budget > 0) await this.#decode(generator, strategy);
    await untilAborted(streamer?.end(), signal);
    if (!parameters.isLimited && this.rows.some(({ newTokens }) => newTokens.length === DEFAULT_NEW_TOKENS))
      generator.warnOnce?.(CUT);
    return {
      ...this.#output(),
      finishReasons: this.rows.map((row) => row.finish ?? 'length'),
      ...(parameters.stopStrings.length > 0 && {
        stopStrings: this.rows.map((row) => row.stop?.matched ?? null),
      }),
      ...(this.sequencesScores && { sequencesScores: [...this.sequencesScores] }),
    };
  }

  /** The error for an abort, with what there is. */
  aborted(): GenerationAbortError {
    return new GenerationAbortError(this.#output(), this.plan.signal?.reason);
  }

  /** Runs the prompts; the clock of decoding starts after them. */
  async prefill(decoding: Decoding, candidates: number): Promise<Scores> {
    const started = performance.now();
    try {
      return await decoding.prefill(candidates, this.plan.signal);
    } finally {
      this.#prefillMs = performance.now() - started;
    }
  }

  /** Adds a token to a row, tells the streamer, and finds out whether the row has ended. */
  async accept(row: Row, token: number): Promise<void> {
    row.push(token);
    if (this.plan.streamer) await this.#stream([token], row.logprobs.at(-1));
    row.finish = this.finishOf(row, token);
    if (this.plan.streamer?.isClosed) row.finish ??= 'stop';
    await this.breathe();
  }

  /** Counts guesses, and those that were right. */
  drafted(count: number, accepted: number): void {
    this.#drafts.drafted += count;
    this.#drafts.accepted += accepted;
  }

  /** Gives the event loop a turn now and then. */
  breathe(): Promise<void> {
    return this.#pace.breathe();
  }

  /** Whether `maxTime` is over. */
  get isLate(): boolean {
    const { maxTime } = this.plan.parameters;
    return maxTime !== undefined && (performance.now() - this.#started) / 1000 >= maxTime;
  }

  /** Why a row ends with its last token; undefined where it goes on. Asked once a token. */
  finishOf(row: Row, token: number): FinishReason | undefined {
    const { parameters, budget } = this.plan;
    if (parameters.eosTokenIds.includes(token)) return 'eos';
    if (row.stop?.push(token) || row.constraint?.isComplete) return 'stop';
    if (this.#meetsCriterion(row)) return 'stop';
    return row.tokens.length - row.promptLength >= budget ? 'length' : undefined;
  }

  /** Ends all rows once `maxTime` is over. */
  endLateRows(): void {
    if (!this.isLate) return;
    for (const row of this.rows) row.finish ??= 'time';
  }

  async #begin(): Promise<void> {
    const { streamer, signal, parameters } = this.plan;
    const { stopStrings, includeStopStrings } = parameters;
    await untilAborted(streamer?.begin?.({ stopStrings: includeStopStrings ? [] : stopStrings }), signal);
  }

  /** Hands a streamer ids of its own. */
  #stream(ids: readonly number[], logprobs?: TokenLogprobs): Promise<void> {
    const { streamer, signal } = this.plan;
    return untilAborted(logprobs ? streamer?.put(ids.slice(), logprobs) : streamer?.put(ids.slice()), signal);
  }

  async #decode(generator: Generator, strategy: Strategy): Promise<void> {
    const { signal, request } = this.plan;
    abortIf(signal, 'generation');
    const decoding = await generator.openDecoding(request);
    const started = performance.now();
    try {
      await strategy(this, decoding);
      decoding.finish();
    } finally {
      this.#decodeMs = performance.now() - started - this.#prefillMs;
      this.#expertsCalls = { ...decoding.expertsCalls };
      this.#cachedTokens = decoding.cachedTokens;
      if (request.returnRoutedExperts)
        this.#routing = this.rows.map(({ index, tokens }) => decoding.routing?.(index, tokens.length - 1));
      decoding.dispose();
    }
  }

  /** Criteria get ids of their own: how long a row is, is ours to know. */
  #meetsCriterion(row: Row): boolean {
    return this.plan.parameters.stoppingCriteria.some((criterion, i) => {
      const answer: unknown = criterion((this.#views[i] as IdsViews).of(row), row.index);
      if (!disownPromise(answer)) return answer;
      throw new InputError(`stoppingCriteria[${i}] returned a promise; expected true or false, at once`);
    });
  }

  #output(): PartialOutput {
    const { prompts, parents, tokenizer, parameters } = this.plan;
    const given = ({ index }: Row) => prompts.given[parents[index] as number] as readonly number[];
    return {
      sequences: this.rows.map((row) => [...given(row), ...row.newTokens]),
      ...(tokenizer && { text: this.rows.map((row) => row.text) }),
      ...(parameters.logprobs !== undefined && { logprobs: this.rows.map((row) => row.logprobs) }),
      ...(this.#routing.length > 0 && {
        routedExperts: this.#routing.filter((routing) => routing !== undefined),
      }),
      stats: this.#stats(),
    };
  }

  #stats(): GenerateStats {
    const promptTokens = this.plan.request.prompts.reduce((sum, { ids }) => sum + ids.length, 0);
    const newTokens = this.rows.reduce((sum, row) => sum + row.newTokens.length, 0);
    const guesses = this.plan.parameters.promptLookupNumTokens !== undefined || this.#drafts.drafted > 0;
    const perSecond = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0);
    return {
      promptTokens,
      cachedTokens: this.#cachedTokens,
      newTokens,
      prefillMs: this.#prefillMs,
      decodeMs: this.#decodeMs,
      prefillTokensPerSecond: perSecond(promptTokens - this.#cachedTokens, this.#prefillMs),
      decodeTokensPerSecond: perSecond(Math.max(0, newTokens - this.rows.length), this.#decodeMs),
      ...(guesses && { drafts: { ...this.#drafts } }),
      expertsCalls: this.#expertsCalls,
    };
  }
}
