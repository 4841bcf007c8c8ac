import * as z from 'zod';
import { ConfigError, InputError, nearest, show } from '../errors.ts';
import type { StoppingCriterion } from './stopping-criteria.ts';

/** A logits processor of the caller's own: changes `scores` [vocab] in place, given the ids of the row so far. */
export type LogitsProcessor = (tokens: readonly number[], scores: Float32Array, row: number) => void;

/** How to generate. Names and meaning follow transformers' `GenerationConfig`. */
export interface GenerationParameters {
  /** Most new tokens a row. Beats `maxLength` where both are set at the same level. Default 20. */
  maxNewTokens?: number | undefined;
  /** Most tokens a row, prompt included. */
  maxLength?: number | undefined;
  /** No end token before this many new tokens. */
  minNewTokens?: number | undefined;
  /** No end token before the row has this many tokens, prompt included. */
  minLength?: number | undefined;
  /** Draw tokens at random (true) or take the likeliest (false). Default false. */
  doSample?: boolean | undefined;
  /** Divides the logits; above 0. Only when sampling. Default 1. */
  temperature?: number | undefined;
  /** Keeps the k likeliest tokens, and ties of the last; 0 keeps all. Only when sampling. Default 50. */
  topK?: number | undefined;
  /** Keeps the likeliest tokens whose probabilities reach this sum. Only when sampling. Default 1. */
  topP?: number | undefined;
  /** Drops tokens less likely than this share of the likeliest one. Only when sampling. Default 0. */
  minP?: number | undefined;
  /** Keeps tokens of typical information content with this probability in sum. Only when sampling. Default 1. */
  typicalP?: number | undefined;
  /** Divides positive logits of tokens already in the row (prompt included, padding not), multiplies negative ones. */
  repetitionPenalty?: number | undefined;
  /** No n-gram of this size may occur twice in a row; 0 allows all. */
  noRepeatNgramSize?: number | undefined;
  /** Token sequences that must not be generated. */
  badWordsIds?: readonly (readonly number[])[] | undefined;
  /** A row ends with one of these. `null` or `[]`: no end token. */
  eosTokenId?: number | readonly number[] | null | undefined;
  /** Fed for rows that have ended while others go on. Default: the first end token. */
  padTokenId?: number | null | undefined;
  /** Continuations of each prompt. More than one needs `doSample`. Default 1. */
  numReturnSequences?: number | undefined;
  /** Texts that end a row once generated. Need `tokenizer`. */
  stopStrings?: string | readonly string[] | undefined;
  /** Seconds after which generation ends; looked at after each token. */
  maxTime?: number | undefined;
  /** Makes sampling repeatable: an integer from 0 to 2^53 − 1. Default: random. transformers has no such parameter. */
  seed?: number | undefined;
  /** Only 1 is supported: no beam search. */
  numBeams?: number | undefined;
  /** Run after the built-in ones that hold for greedy decoding too, before the filters of sampling. */
  logitsProcessors?: readonly LogitsProcessor[] | undefined;
  stoppingCriteria?: readonly StoppingCriterion[] | undefined;
}

/** A checked generation_config.json, or any other set of parameters. */
export type GenerationConfig = Readonly<GenerationParameters>;

/** Parameters with defaults filled in. */
export interface ResolvedParameters {
  /** Set where maxNewTokens counts. */
  maxNewTokens: number | undefined;
  /** Set where maxLength counts. */
  maxLength: number | undefined;
  minNewTokens: number;
  minLength: number;
  doSample: boolean;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  repetitionPenalty: number;
  noRepeatNgramSize: number;
  badWordsIds: readonly (readonly number[])[];
  eosTokenIds: readonly number[];
  padTokenId: number;
  numReturnSequences: number;
  stopStrings: readonly string[];
  maxTime: number | undefined;
  seed: number | undefined;
  logitsProcessors: readonly LogitsProcessor[];
  stoppingCriteria: readonly StoppingCriterion[];
}

const count = (least: number) =>
  z.int(`It must be an integer from ${least} up.`).min(least, `It must be at least ${least}.`);
const share = z
  .number('It must be a number from 0 to 1.')
  .min(0, 'It must be from 0 to 1.')
  .max(1, 'It must be from 0 to 1.');
const positive = z.number('It must be a number above 0.').gt(0, 'It must be above 0.');
const functions = z.array(z.custom<never>((value) => typeof value === 'function', 'It must be a function.'));

// transformers takes a top_p above 1 and ignores it; here it is an error like every other value without a meaning.
const schemas = {
  maxNewTokens: count(1),
  maxLength: count(1),
  minNewTokens: count(0),
  minLength: count(0),
  doSample: z.boolean('It must be true or false.'),
  temperature: positive,
  topK: count(0),
  topP: share,
  minP: share,
  typicalP: z
    .number('It must be a number above 0, up to 1.')
    .gt(0, 'It must be above 0.')
    .max(1, 'It must be up to 1.'),
  repetitionPenalty: positive,
  noRepeatNgramSize: count(0),
  badWordsIds: z.array(z.array(count(0)).min(1, 'It must hold at least one token id.')),
  eosTokenId: z
    .union([count(0), z.array(count(0))], 'It must be a token id or a list of token ids.')
    .nullable(),
  padTokenId: count(0).nullable(),
  numReturnSequences: count(1),
  stopStrings: z.union(
    [z.string().min(1), z.array(z.string().min(1))],
    'It must be a text or a list of texts, none of them empty.',
  ),
  maxTime: positive,
  seed: count(0),
  numBeams: z.literal(1, 'Beam search is not supported: set it to 1.'),
  logitsProcessors: functions,
  stoppingCriteria: functions,
} satisfies Record<keyof GenerationParameters, z.ZodType>;

type Name = keyof GenerationParameters;

/** All parameter names, in camelCase. */
export const parameterNames = Object.keys(schemas) as readonly Name[];

const GREEDY_HINT = 'It must be above 0; for greedy decoding set doSample: false.';

function fault(name: Name, value: unknown): string | undefined {
  const result = schemas[name].safeParse(value);
  if (result.success) return undefined;
  if (name === 'temperature' && typeof value === 'number' && value <= 0) return GREEDY_HINT;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  return issue.path.length > 0 ? `At [${issue.path.join('][')}]: ${issue.message}` : issue.message;
}

/**
 * Checks parsed generation_config.json (names in snake_case). Null means not set; keys that are no parameters here are
 * left aside. No file (undefined) is an empty configuration.
 *
 * @throws {ConfigError} a value is out of range or of the wrong type.
 */
export function parseGenerationConfig(json: unknown, file = 'generation_config.json'): GenerationConfig {
  if (json === undefined) return {};
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError(`${file} must hold an object, but is ${show(json)}.`);
  }
  const config: Record<string, unknown> = {};
  for (const name of parameterNames) {
    if (name === 'seed' || name === 'logitsProcessors' || name === 'stoppingCriteria') continue;
    const key = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const value = (json as Record<string, unknown>)[key];
    if (value === undefined || value === null) continue;
    const message = fault(name, value);
    if (message) throw new ConfigError(`${file}: ${key} is ${show(value)}. ${message}`);
    config[name] = value;
  }
  return config;
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
  const config: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    if (others.includes(name) || value === undefined) continue;
    if (!Object.hasOwn(schemas, name)) throw new InputError(unknownName(name, where, others));
    if (value === null && name !== 'eosTokenId' && name !== 'padTokenId') continue;
    const message = fault(name as Name, value);
    if (message) throw new InputError(`${where}: ${name} is ${show(value)}. ${message}`);
    config[name] = value;
  }
  return config;
}

function unknownName(name: string, where: string, others: readonly string[]): string {
  const known = [...parameterNames, ...others];
  const camelCase = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const guess = nearest(camelCase, known);
  return `${where}: ${show(name)} is not an option.${guess ? ` Did you mean ${guess}?` : ` Options are ${known.sort().join(', ')}.`}`;
}

/**
 * Joins levels of parameters, strongest first, over the defaults of transformers.
 *
 * Of `maxNewTokens` and `maxLength` the one set at the strongest level counts; transformers always prefers
 * `maxNewTokens`, even one from generation_config.json to a `maxLength` of the call.
 */
export function resolveParameters(levels: readonly GenerationConfig[]): ResolvedParameters {
  const pick = <N extends Name>(name: N): GenerationConfig[N] =>
    levels.find((level) => level[name] !== undefined)?.[name];
  const bound = levels.find((level) => level.maxNewTokens !== undefined || level.maxLength !== undefined);
  const maxLength = bound?.maxNewTokens === undefined ? bound?.maxLength : undefined;
  const eos = pick('eosTokenId') ?? [];
  const eosTokenIds = typeof eos === 'number' ? [eos] : eos;
  const stop = pick('stopStrings') ?? [];
  return {
    maxNewTokens: maxLength === undefined ? (bound?.maxNewTokens ?? 20) : undefined,
    maxLength,
    minNewTokens: pick('minNewTokens') ?? 0,
    minLength: pick('minLength') ?? 0,
    doSample: pick('doSample') ?? false,
    temperature: pick('temperature') ?? 1,
    topK: pick('topK') ?? 50,
    topP: pick('topP') ?? 1,
    minP: pick('minP') ?? 0,
    typicalP: pick('typicalP') ?? 1,
    repetitionPenalty: pick('repetitionPenalty') ?? 1,
    noRepeatNgramSize: pick('noRepeatNgramSize') ?? 0,
    badWordsIds: pick('badWordsIds') ?? [],
    eosTokenIds,
    padTokenId: pick('padTokenId') ?? eosTokenIds[0] ?? 0,
    numReturnSequences: pick('numReturnSequences') ?? 1,
    stopStrings: typeof stop === 'string' ? [stop] : stop,
    maxTime: pick('maxTime'),
    seed: pick('seed'),
    logitsProcessors: pick('logitsProcessors') ?? [],
    stoppingCriteria: pick('stoppingCriteria') ?? [],
  };
}
