import { AbortError, nameKind } from '../errors.ts';
import type { TokenLogprobs } from './logprobs.ts';
import type { RowRouting } from './types.ts';

/** Why a row ended: an end token, the token limit or the context, a stop string, criterion or constraint, or `maxTime`. */
export type FinishReason = 'eos' | 'length' | 'stop' | 'time';

/** Whether a limit has ended a sequence that would have gone on. */
export function isCutOff(reason: FinishReason | undefined): boolean {
  return reason === 'length' || reason === 'time';
}

export interface GenerateStats {
  /** Tokens of all prompts, without padding. */
  promptTokens: number;
  /** Of these, the tokens that did not run, because an earlier generation had computed them. */
  cachedTokens: number;
  /** New tokens of all rows. */
  newTokens: number;
  /** Milliseconds the prompts took. */
  prefillMs: number;
  /** Milliseconds from the end of the prompts to the last token. */
  decodeMs: number;
  /** Of the prompt tokens that did run. */
  prefillTokensPerSecond: number;
  /** Tokens after the first of each row, per second of `decodeMs`. */
  decodeTokensPerSecond: number;
  /**
   * Tokens that were guessed and so needed no pass of their own, and how many of them were right. With `promptLookupNumTokens`, and where a
   * constraint leaves no choice.
   */
  drafts?: { readonly drafted: number; readonly accepted: number };
  /** Calls of MoE layers by experts backend. */
  expertsCalls: Readonly<Record<string, number>>;
}

export interface GenerateOutput {
  /**
   * Each row as given (with its padding), then its new tokens up to and including its end token. Rows may differ in
   * length; transformers instead fills them up with the pad token.
   */
  sequences: number[][];
  /**
   * The new text of each row, without special tokens, and without the stop string that ended it unless `includeStopStrings` is set. Only
   * where the tokenizer is known: given as an option, or the model's own, once it has been loaded.
   */
  text?: string[];
  /** One a row. */
  finishReasons: FinishReason[];
  /** The stop string that ended each row, or null. With `stopStrings` only. */
  stopStrings?: (string | null)[];
  /** Log-probability of each row over its length to the power of `lengthPenalty`. With beams only, of which the best come first. */
  sequencesScores?: number[];
  /** One entry a new token of each row. With `logprobs` only. */
  logprobs?: TokenLogprobs[][];
  /** One a row. With `returnRoutedExperts` only. */
  routedExperts?: RowRouting[];
  stats: GenerateStats;
}

/** What there was when a generation was aborted. */
export type PartialOutput = Omit<GenerateOutput, 'finishReasons' | 'stopStrings' | 'sequencesScores'>;

/** A generation was ended through its signal. */
export class GenerationAbortError extends AbortError {
  /** Prompts and the tokens generated until then. */
  readonly partial: PartialOutput;

  constructor(partial: PartialOutput, cause: unknown) {
    super(`Generation was aborted after ${partial.stats.newTokens} new tokens`, { cause });
    this.partial = partial;
  }
}

nameKind(GenerationAbortError, 'GenerationAbortError');
