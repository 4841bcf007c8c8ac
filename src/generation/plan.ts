import { expected, InputError, show } from '../errors.ts';
import { checkSignal, isRecord, noMore } from '../options.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { ANSWER_OPTIONS, answerConstraint, startOf } from './answer-options.ts';
import { type ConstraintFactory, checkedConstraints } from './constraint.ts';
import type { GenerateOptions } from './generate-options.ts';
import { refuseIdle } from './idle-options.ts';
import { checkParameters, type GenerationConfig } from './parameters.ts';
import type { Prompts } from './prompt.ts';
import { type ResolvedParameters, resolveParameters } from './resolve-parameters.ts';
import { type Streamer, TextStreamer } from './streamers.ts';
import { type ThinkingBudget, thinkingBudgets } from './thinking-budget.ts';
import { tokenBudget } from './token-budget.ts';
import type { DecodingRequest, Generator, PromptRow } from './types.ts';

/** Options of `generate` that are no parameters. */
export const OTHER_OPTIONS = [
  'inputIds',
  'attentionMask',
  'negativePromptIds',
  'generationConfig',
  'streamer',
  'signal',
  'constraint',
  'tokenizer',
  'expertsImplementation',
  'returnRoutedExperts',
  'cache',
  ...ANSWER_OPTIONS,
] as const satisfies readonly (keyof GenerateOptions)[];

/**
 * Checks names and values of the options of `generate`, before anything is done with them.
 * @param rest what came after the options
 * @param more names of options that the model adds
 * @throws InputError names the option
 */
export function checkGenerateOptions(
  options: unknown,
  rest: readonly unknown[],
  more: readonly string[] = [],
  where = 'generate',
): void {
  if (!isRecord(options))
    throw new InputError(expected(`The argument of ${where}`, options, 'an object of options'));
  checkParameters(options, where, [...OTHER_OPTIONS, ...more]);
  const { signal, tokenizer } = options;
  checkSignal(signal, where);
  checkTokenizer(tokenizer, where);
  noMore(rest, where, 'options stand inside the first');
}

/** Everything that is settled before the model runs. */
export interface Plan {
  prompts: Prompts;
  /** Of each row, the prompt it continues. */
  parents: readonly number[];
  parameters: ResolvedParameters;
  vocabSize: number;
  /** New tokens each row may have; 0 where the prompts fill the context. */
  budget: number;
  streamer: Streamer | undefined;
  signal: AbortSignal | undefined;
  tokenizer: Tokenizer | undefined;
  constraint: ConstraintFactory | undefined;
  /** What follows the reasoning of a row with this prompt. */
  thinking: ((prompt: readonly number[]) => ThinkingBudget) | undefined;
  request: DecodingRequest;
}

/**
 * Checks all arguments of `generate` and fills in what follows from them.
 *
 * @throws {InputError} an option or id is out of range or of the wrong type.
 */
export function makePlan(
  generator: Generator,
  defaults: GenerationConfig,
  options: GenerateOptions,
  prompts: Prompts,
): Plan {
  if (!isRecord(options))
    throw new InputError(expected('The argument of generate', options, 'an object of options'));
  const { vocabSize } = generator;
  const { parameters, asked } = joinParameters(defaults, options, vocabSize);
  const parents = parentsOf(prompts, parameters);
  const constraint = constraintOf(options, prompts, parents, parameters, vocabSize);
  checkSequences(parameters, parents.length, constraint !== undefined);
  const { returnRoutedExperts = false } = options;
  checkRouting(returnRoutedExperts, parameters);
  checkCacheUse(options, parents.length, parameters);
  const negative = negativePrompts(options, prompts, parameters);
  const thinking = thinkingBudgets(parameters.thinkingBudget, options.tokenizer, startOf);
  if (thinking && parameters.numBeams > 1)
    throw new InputError('numBeams excludes thinkingBudget. Leave one of them out');
  checkStreaming(options, parents.length, parameters);
  const all = [...prompts.rows, ...negative];
  const budget = tokenBudget(parameters, all, generator.contextLength, asked);
  return {
    prompts,
    parents,
    parameters,
    vocabSize,
    budget,
    streamer: asStreamer(options),
    signal: options.signal,
    tokenizer: options.tokenizer,
    constraint,
    thinking,
    request: {
      prompts: all,
      newTokens: budget,
      ...(rowsOf(parameters) > 1 && { rows: rowsOf(parameters) }),
      ...(options.expertsImplementation !== undefined && {
        expertsImplementation: options.expertsImplementation,
      }),
      ...(returnRoutedExperts && { returnRoutedExperts }),
      ...(options.cache !== undefined && { cache: options.cache }),
    },
  };
}

function constraintOf(
  options: GenerateOptions,
  { rows }: Prompts,
  parents: readonly number[],
  { eosTokenIds }: ResolvedParameters,
  vocabSize: number,
): ConstraintFactory | undefined {
  const { constraint: own, tokenizer } = options;
  if (own !== undefined && typeof own !== 'function')
    throw new InputError(expected('constraint', own, 'a function that makes the constraint of a row'));
  const prompts = parents.map((prompt) => rows[prompt]?.ids ?? []);
  const answer = answerConstraint(options, tokenizer, prompts, eosTokenIds, vocabSize);
  if (own && answer)
    throw new InputError(
      'constraint excludes responseFormat and tools, which are a constraint too: leave one of them out',
    );
  return own ? checkedConstraints(own, vocabSize) : answer;
}

/** The parameters of a call, and what the call asks for by itself, without generation_config.json. */
function joinParameters(
  defaults: GenerationConfig,
  options: GenerateOptions,
  vocabSize: number,
): { readonly parameters: ResolvedParameters; readonly asked: ResolvedParameters } {
  const call = checkParameters(options, 'generate', OTHER_OPTIONS);
  const passed = checkParameters(options.generationConfig ?? {}, 'generationConfig');
  for (const [level, where] of [
    [call, 'generate'],
    [passed, 'generationConfig'],
  ] as const) {
    checkTokenIds(level, where, vocabSize);
  }
  const given = [
    { where: 'generate', level: atTemperatureZero(call) },
    { where: 'generationConfig', level: atTemperatureZero(passed) },
  ];
  const levels = given.map(({ level }) => level);
  const parameters = resolveParameters([...levels, defaults]);
  refuseIdle(given, defaults, parameters);
  // generation_config.json may name ids the model does not have: they cannot come up.
  const eosTokenIds = parameters.eosTokenIds.filter((id) => id < vocabSize);
  return { parameters: { ...parameters, eosTokenIds }, asked: resolveParameters(levels) };
}

/** A caller's temperature of 0 asks for greedy decoding. */
function atTemperatureZero(config: GenerationConfig): GenerationConfig {
  return config.temperature === 0 ? { ...config, doSample: false } : config;
}

function checkTokenIds(config: GenerationConfig, where: string, vocabSize: number): void {
  const ids = {
    eosTokenId: config.eosTokenId,
    padTokenId: config.padTokenId,
    forcedEosTokenId: config.forcedEosTokenId,
    badWordsIds: config.badWordsIds,
    sequenceBias: config.sequenceBias?.map(([sequence]) => sequence),
    logitBias: Object.keys(config.logitBias ?? {}).map(Number),
    suppressTokens: config.suppressTokens,
    beginSuppressTokens: config.beginSuppressTokens,
  };
  for (const [name, value] of Object.entries(ids)) {
    const outside = [value as unknown].flat(2).find((id) => typeof id === 'number' && id >= vocabSize);
    if (outside === undefined) continue;
    throw new InputError(
      `${where}: ${name} has the id ${outside}, but the model's ids go from 0 to ${vocabSize - 1}`,
    );
  }
}

/** @throws InputError for what cannot go with beams, or give several sequences */
function checkSequences(parameters: ResolvedParameters, rows: number, isConstrained: boolean): void {
  const { numReturnSequences, numBeams, doSample } = parameters;
  if (parameters.promptLookupNumTokens !== undefined && (rows > 1 || numBeams > 1))
    throw new InputError(
      'promptLookupNumTokens is for one row without beams. Generate rows one by one, or leave it out',
    );
  if (numBeams > 1) {
    // Who wrote no doSample has it from the model's generation_config.json, and cannot leave it out.
    if (doSample)
      throw new InputError(
        `numBeams is ${numBeams}, which excludes doSample. Set doSample: false, where the model's generation_config.json samples, too`,
      );
    const stray = isConstrained ? 'a constraint on tokens' : undefined;
    const other = stray ?? (parameters.logprobs === undefined ? undefined : 'logprobs');
    if (other !== undefined)
      throw new InputError(`numBeams is ${numBeams}, which excludes ${other}. Leave one of them out`);
    if (numReturnSequences > numBeams)
      throw new InputError(
        `numReturnSequences is ${numReturnSequences}, but there are ${numBeams} beams. Raise numBeams`,
      );
  } else if (numReturnSequences > 1 && !doSample) {
    throw new InputError(
      `numReturnSequences is ${numReturnSequences}, but greedy decoding gives the same row every time. ` +
        'Set doSample: true, as many numBeams, or numReturnSequences: 1',
    );
  }
}

/** @throws InputError */
function checkRouting(value: unknown, { numBeams }: ResolvedParameters): void {
  if (typeof value !== 'boolean')
    throw new InputError(expected('returnRoutedExperts', value, 'true or false'));
  if (value && numBeams > 1)
    throw new InputError(
      `numBeams is ${numBeams}, which excludes returnRoutedExperts. Leave one of them out`,
    );
}

/** What rows lead away from; none without guidance. @throws InputError for what cannot go with guidance */
function negativePrompts(
  options: GenerateOptions,
  { rows, negative = [] }: Prompts,
  { guidanceScale, numBeams, promptLookupNumTokens, logprobs }: ResolvedParameters,
): readonly PromptRow[] {
  const { negativePromptIds, cache, returnRoutedExperts } = options;
  if (guidanceScale === 1) {
    if (negativePromptIds === undefined) return [];
    throw new InputError(
      'negativePromptIds have no effect without guidanceScale. Set that, or leave them out',
    );
  }
  const others = {
    promptLookupNumTokens,
    logprobs,
    cache,
    returnRoutedExperts: returnRoutedExperts || undefined,
  };
  const stray = Object.entries(others).find(([, value]) => value !== undefined)?.[0];
  const other = numBeams > 1 ? 'numBeams' : stray;
  if (other !== undefined) throw new InputError(`guidanceScale excludes ${other}. Leave one of them out`);
  if (negative.length !== 1 && negative.length !== rows.length)
    throw new InputError(
      `There are ${negative.length} negative prompts, but ${rows.length} prompts; give one, or one for each`,
    );
  return rows.map((_, i) => (negative[i] ?? negative[0]) as PromptRow);
}

/** @throws InputError for what cannot go with a cache, which is of one sequence */
function checkCacheUse(
  { cache, returnRoutedExperts }: GenerateOptions,
  rows: number,
  { numBeams }: ResolvedParameters,
): void {
  if (cache === undefined) return;
  if (rows > 1 || numBeams > 1)
    throw new InputError(
      'cache holds one sequence, but there are several rows or beams. Generate rows one by one, each with a cache.fork()',
    );
  if (returnRoutedExperts)
    throw new InputError(
      'returnRoutedExperts needs the whole prompt computed, which cache saves. Leave one of them out',
    );
}

/** Rows that a prompt has at a time at most. */
function rowsOf({ numBeams, numReturnSequences }: ResolvedParameters): number {
  return numBeams > 1 ? numBeams : numReturnSequences;
}

/** Which prompt each row of the output continues. Beams are as many rows as they find. */
function parentsOf(prompts: Prompts, { numReturnSequences, numBeams }: ResolvedParameters): number[] {
  const times = numBeams > 1 ? 1 : numReturnSequences;
  return [...prompts.rows.keys()].flatMap((prompt) => Array.from({ length: times }, () => prompt));
}

function checkStreaming(options: GenerateOptions, rows: number, parameters: ResolvedParameters): void {
  if (options.streamer !== undefined && parameters.numBeams > 1)
    throw new InputError(
      'A streamer follows one row, but beams change their minds. Leave streamer or numBeams out',
    );
  const { streamer, tokenizer } = options;
  if (typeof streamer === 'function') {
    if (tokenizer === undefined)
      throw new InputError(
        'A function as streamer gets text, and needs the tokenizer: pass it as the option tokenizer',
      );
  } else if (
    streamer !== undefined &&
    (typeof streamer?.put !== 'function' || typeof streamer.end !== 'function')
  ) {
    throw new InputError(
      expected('streamer', streamer, 'a function that takes text, or an object with the methods put and end'),
    );
  }
  for (const name of ['begin', 'fail'] as const) {
    const method: unknown = typeof streamer === 'function' ? undefined : streamer?.[name];
    if (method !== undefined && typeof method !== 'function')
      throw new InputError(expected(`streamer: ${name}`, method, 'a method, or nothing'));
  }
  if (streamer !== undefined && rows > 1) {
    throw new InputError(
      `A streamer follows one row, but this batch has ${rows}. Generate rows one by one to stream`,
    );
  }
  checkTokenizer(tokenizer, 'generate');
  if (parameters.stopStrings.length > 0 && tokenizer === undefined) {
    const texts = parameters.stopStrings.map((text) => show(text)).join(', ');
    throw new InputError(
      `stopStrings (${texts}) need the tokenizer: pass it as the option tokenizer, or stopStrings: [] to go on past them`,
    );
  }
}

/** @throws InputError for what is no tokenizer; one of another copy of the package is */
function checkTokenizer(tokenizer: unknown, where: string): void {
  if (tokenizer === undefined) return;
  const { detokenizer, encodeAsync } = (tokenizer ?? {}) as Partial<Tokenizer>;
  if (typeof detokenizer !== 'function' || typeof encodeAsync !== 'function')
    throw new InputError(expected(`${where}: tokenizer`, tokenizer, 'a tokenizer, as of AutoTokenizer'));
}

/** A function gets text by way of a text streamer. Checked before. */
function asStreamer({ streamer, tokenizer }: GenerateOptions): Streamer | undefined {
  if (typeof streamer !== 'function' || tokenizer === undefined) return streamer as Streamer | undefined;
  return new TextStreamer(tokenizer, { skipPrompt: true, skipSpecialTokens: true, write: streamer });
}
