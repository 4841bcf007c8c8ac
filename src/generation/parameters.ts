import * as z from 'zod';
import { expected, InputError, show } from '../errors.ts';
import { camelCase, isRecord, unknownOption } from '../options.ts';
import type { StoppingCriterion } from './stopping-criteria.ts';
import { unsupportedReason } from './unsupported.ts';

/** A logits processor of the caller's own: changes `scores` [vocab] in place, given the ids of the row so far. */
export type LogitsProcessor = (tokens: readonly number[], scores: Float32Array, row: number) => void;

/** Says which tokens may follow a row: at least one id. Called with the ids of the row so far. */
export type PrefixAllowedTokensFn = (tokens: readonly number[], row: number) => readonly number[];

/** How to generate. Names and meaning follow transformers' `GenerationConfig`. */
export interface GenerationParameters {
  /** Most new tokens a row. Beats `maxLength` where both are set at the same level. Default 256. */
  maxNewTokens?: number | undefined;
  /** Most tokens a row, prompt included. */
  maxLength?: number | undefined;
  /** No end token before this many new tokens. Beats `minLength` where both are set at the same level. */
  minNewTokens?: number | undefined;
  /** No end token before the row has this many tokens, prompt included. */
  minLength?: number | undefined;
  /** Draw tokens at random (true) or take the likeliest (false). Default false. */
  doSample?: boolean | undefined;
  /** Divides the logits; 0 is greedy decoding. Only when sampling. Default 1. */
  temperature?: number | undefined;
  /** Keeps likely tokens up to this share of the distribution's entropy; 0 keeps all. Only when sampling. Default 0. */
  topH?: number | undefined;
  /** Keeps the k likeliest tokens, and ties of the last; 0 keeps all. Only when sampling. Default 50. */
  topK?: number | undefined;
  /** Keeps the likeliest tokens whose probabilities reach this sum. Only when sampling. Default 1. */
  topP?: number | undefined;
  /** Drops tokens less likely than this share of the likeliest one. Only when sampling. Default 0. */
  minP?: number | undefined;
  /** Keeps tokens of typical information content with this probability in sum. Only when sampling. Default 1. */
  typicalP?: number | undefined;
  /** Drops tokens of a lower probability; 0 keeps all. Only when sampling. Default 0. */
  epsilonCutoff?: number | undefined;
  /** As `epsilonCutoff`, but lower where the distribution is flat; 0 keeps all. Only when sampling. Default 0. */
  etaCutoff?: number | undefined;
  /** Divides positive logits of tokens already in the row (prompt included, padding not), multiplies negative ones. */
  repetitionPenalty?: number | undefined;
  /** Taken from the logit of every token generated so far; from −2 to 2. transformers has no such parameter. */
  presencePenalty?: number | undefined;
  /** Taken from a token's logit for each time it has been generated; from −2 to 2. transformers has no such parameter. */
  frequencyPenalty?: number | undefined;
  /** No n-gram of this size may occur twice in a row; 0 allows all. */
  noRepeatNgramSize?: number | undefined;
  /** Token sequences that must not be generated. */
  badWordsIds?: readonly (readonly number[])[] | undefined;
  /** Added to the logit of each sequence's last token where its other tokens end the row: [ids, bias]. */
  sequenceBias?: readonly (readonly [readonly number[], number])[] | undefined;
  /** Added to the logits of single tokens, by id: `{ 151643: -100 }`. As of OpenAI; adds to `sequenceBias`. */
  logitBias?: Readonly<Record<number, number>> | undefined;
  /** Tokens that must not be generated. */
  suppressTokens?: readonly number[] | undefined;
  /** Tokens that must not be generated first. */
  beginSuppressTokens?: readonly number[] | undefined;
  /** The last token that the limit of tokens leaves. */
  forcedEosTokenId?: number | readonly number[] | null | undefined;
  /** Raises the end token's logit after this many new tokens, by this factor per token: [start, factor]. */
  exponentialDecayLengthPenalty?: readonly [number, number] | undefined;
  /** Takes NaN among the logits as 0, and infinities as the largest numbers. Default false. */
  removeInvalidValues?: boolean | undefined;
  /** A row ends with one of these. `null` or `[]`: no end token. */
  eosTokenId?: number | readonly number[] | null | undefined;
  /** Fed for rows that have ended while others go on. Default: the first end token. */
  padTokenId?: number | null | undefined;
  /** Continuations of each prompt. More than one needs `doSample`, or as many beams. Default 1. */
  numReturnSequences?: number | undefined;
  /** Texts that end a row once generated. Need `tokenizer`. */
  stopStrings?: string | readonly string[] | undefined;
  /** Whether the stop string stays in the text, as in transformers. Default false. The tokens are always kept. */
  includeStopStrings?: boolean | undefined;
  /** Log-probabilities of each new token and of so many likeliest ones, 0 to 20. Every token then costs a look at all logits. */
  logprobs?: number | undefined;
  /** Seconds after which generation ends; looked at after each token. */
  maxTime?: number | undefined;
  /** Makes sampling repeatable: an integer from 0 to 2^53 − 1. Default: random. transformers has no such parameter. */
  seed?: number | undefined;
  /** Sequences that beam search follows; 1 is none. Excludes `doSample`. Default 1. */
  numBeams?: number | undefined;
  /**
   * When beam search ends: `true` once `numBeams` sequences have ended, `false` once none can be expected to end better, `'never'` once none
   * can. Default false.
   */
  earlyStopping?: boolean | 'never' | undefined;
  /** Beams are ranked by their log-probability over their length to this power: above 0 longer ones gain. Default 1. */
  lengthPenalty?: number | undefined;
  /**
   * Most tokens that are guessed at once from what followed the same tokens earlier in the row; a pass then checks them together. Pays where
   * an answer repeats its prompt, as when code is edited. For one row. Default: none.
   */
  promptLookupNumTokens?: number | undefined;
  /** Most tokens whose earlier place is looked for. With `promptLookupNumTokens`. Default 2. */
  maxMatchingNgramSize?: number | undefined;
  /**
   * How much what follows from the prompt, and not from the negative prompt, is favoured; 1 is not at all. Each row is then computed twice, and
   * every token costs a look at all logits. Without `negativePromptIds` the prompt's last token is the negative prompt. Default 1.
   */
  guidanceScale?: number | undefined;
  /**
   * Most tokens of reasoning; after them the tag that closes it is put in place of the next one. Needs `tokenizer`. Default: none. As
   * `thinking_budget` of Qwen's API.
   */
  thinkingBudget?: number | undefined;
  /** Says which tokens may come next. */
  prefixAllowedTokensFn?: PrefixAllowedTokensFn | undefined;
  /** Run after the built-in ones that hold for greedy decoding too, before the filters of sampling. */
  logitsProcessors?: readonly LogitsProcessor[] | undefined;
  stoppingCriteria?: readonly StoppingCriterion[] | undefined;
}

/** Parameters of a call or of a file; those of a file are checked when they are looked at. */
export type GenerationConfig = Readonly<GenerationParameters>;

export type ParameterName = keyof GenerationParameters;

const ids = z.array(z.int().min(0));
const functions = z.array(z.custom<never>((value) => typeof value === 'function'));
const share = [z.number().min(0).max(1), 'a number from 0 to 1'] as const;
const above = (least: 0 | 1) =>
  [z.int().min(least), least === 0 ? 'a whole number of at least 0' : 'a whole number above 0'] as const;
const positive = [z.number().gt(0), 'a number above 0'] as const;

/** New tokens a row may have where nobody sets a limit; transformers has 20. */
export const DEFAULT_NEW_TOKENS = 256;

const MOST_BEAMS = 256;
/** Likeliest tokens that may be listed at a place. */
export const MOST_LOGPROBS = 20;
const MOST_GUESSES = 128;
/** Rows are held one by one, so that a number without measure would fill the memory before anything runs. */
const MOST_SEQUENCES = 4096;

// transformers takes a top_p above 1 and ignores it; here it is an error like every other value without a meaning.
const PARAMETERS: Readonly<Record<ParameterName, readonly [schema: z.ZodType, wanted: string]>> = {
  maxNewTokens: above(1),
  maxLength: above(1),
  minNewTokens: above(0),
  minLength: above(0),
  doSample: [z.boolean(), 'true or false'],
  temperature: [z.number().min(0), 'a number above 0, or 0 for greedy decoding'],
  topH: share,
  topK: above(0),
  topP: share,
  minP: share,
  typicalP: [z.number().gt(0).max(1), 'a number above 0, up to 1'],
  epsilonCutoff: [z.number().min(0).lt(1), 'a number from 0, below 1'],
  etaCutoff: [z.number().min(0).lt(1), 'a number from 0, below 1'],
  repetitionPenalty: positive,
  presencePenalty: [z.number().min(-2).max(2), 'a number from -2 to 2'],
  frequencyPenalty: [z.number().min(-2).max(2), 'a number from -2 to 2'],
  noRepeatNgramSize: above(0),
  badWordsIds: [z.array(ids.min(1)), 'a list of lists of token ids, none of them empty'],
  sequenceBias: [
    z.array(z.tuple([ids.min(1), z.number()])),
    'a list of pairs: a list of token ids, and the number to add',
  ],
  logitBias: [z.record(z.string().regex(/^\d+$/), z.number()), 'an object of numbers to add, by token id'],
  suppressTokens: [ids, 'a list of token ids'],
  beginSuppressTokens: [ids, 'a list of token ids'],
  forcedEosTokenId: [z.union([z.int().min(0), ids]).nullable(), 'a token id or a list of token ids'],
  exponentialDecayLengthPenalty: [
    z.tuple([z.int().min(0), z.number().gt(0)]),
    'the new tokens it starts after, and a factor above 0',
  ],
  removeInvalidValues: [z.boolean(), 'true or false'],
  eosTokenId: [z.union([z.int().min(0), ids]).nullable(), 'a token id or a list of token ids'],
  padTokenId: [z.int().min(0).nullable(), 'a token id'],
  numReturnSequences: [z.int().min(1).max(MOST_SEQUENCES), `a whole number from 1 to ${MOST_SEQUENCES}`],
  stopStrings: [
    z.union([z.string().min(1), z.array(z.string().min(1))]),
    'a text or a list of texts, none of them empty',
  ],
  includeStopStrings: [z.boolean(), 'true or false'],
  logprobs: [z.int().min(0).max(MOST_LOGPROBS), `a whole number from 0 to ${MOST_LOGPROBS}`],
  maxTime: positive,
  seed: [z.int().min(0), 'a whole number from 0 to 2^53 - 1'],
  numBeams: [z.int().min(1).max(MOST_BEAMS), `a whole number from 1 to ${MOST_BEAMS}`],
  earlyStopping: [z.union([z.boolean(), z.literal('never')]), 'true, false or "never"'],
  lengthPenalty: [z.number(), 'a number'],
  promptLookupNumTokens: [z.int().min(1).max(MOST_GUESSES), `a whole number from 1 to ${MOST_GUESSES}`],
  maxMatchingNgramSize: above(1),
  guidanceScale: [z.number().min(0), 'a number of at least 0; 1 is no guidance'],
  thinkingBudget: above(0),
  prefixAllowedTokensFn: [z.custom<never>((value) => typeof value === 'function'), 'a function'],
  logitsProcessors: [functions, 'a list of functions'],
  stoppingCriteria: [functions, 'a list of functions'],
};

/** All parameter names, in camelCase. */
export const PARAMETER_NAMES = Object.keys(PARAMETERS) as readonly ParameterName[];

/** What a value should be, or undefined where it is that. */
export function wantedInstead(name: ParameterName, value: unknown): string | undefined {
  const [schema, wanted] = PARAMETERS[name];
  return schema.safeParse(value).success ? undefined : wanted;
}

/**
 * Checks parameters given in code, and drops those left undefined.
 *
 * @param where names the object in messages
 * @param others further names that are allowed in it
 * @throws {InputError} a name is unknown, or a value out of range or of the wrong type.
 */
export function checkParameters(
  given: object,
  where: string,
  others: readonly string[] = [],
): GenerationConfig {
  if (!isRecord(given)) throw new InputError(expected(where, given, 'an object of parameters'));
  const config: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (others.includes(name) || value === undefined) continue;
    if (!Object.hasOwn(PARAMETERS, name))
      throw unknownParameter(name, [...PARAMETER_NAMES, ...others], where);
    if (value === null && name !== 'eosTokenId' && name !== 'padTokenId') continue;
    const wanted = wantedInstead(name as ParameterName, value);
    if (wanted !== undefined) throw new InputError(expected(`${where}: ${name}`, value, wanted));
    config[name] = value;
  }
  return config;
}

/** The error for a name that no parameter has: one of transformers is refused by what stands for it here. */
function unknownParameter(name: string, known: readonly string[], where: string): InputError {
  const reason = unsupportedReason(camelCase(name));
  return reason === undefined
    ? unknownOption(name, known, where)
    : new InputError(`${where}: ${show(name)} is an option of transformers that is not supported: ${reason}`);
}
