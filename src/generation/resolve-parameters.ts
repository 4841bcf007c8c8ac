import {
  DEFAULT_NEW_TOKENS,
  type GenerationConfig,
  type LogitsProcessor,
  type ParameterName,
  type PrefixAllowedTokensFn,
} from './parameters.ts';
import type { StoppingCriterion } from './stopping-criteria.ts';

/** Parameters with defaults filled in. */
export interface ResolvedParameters {
  /** Set where maxNewTokens counts. */
  maxNewTokens: number | undefined;
  /** Set where maxLength counts. */
  maxLength: number | undefined;
  /** Whether somebody has set either. */
  isLimited: boolean;
  minNewTokens: number;
  minLength: number;
  doSample: boolean;
  temperature: number;
  topH: number;
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  epsilonCutoff: number;
  etaCutoff: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  noRepeatNgramSize: number;
  badWordsIds: readonly (readonly number[])[];
  /** With `logitBias`. */
  sequenceBias: readonly (readonly [readonly number[], number])[];
  suppressTokens: readonly number[];
  beginSuppressTokens: readonly number[];
  forcedEosTokenIds: readonly number[];
  exponentialDecayLengthPenalty: readonly [number, number] | undefined;
  removeInvalidValues: boolean;
  eosTokenIds: readonly number[];
  padTokenId: number;
  numBeams: number;
  earlyStopping: boolean | 'never';
  lengthPenalty: number;
  numReturnSequences: number;
  stopStrings: readonly string[];
  includeStopStrings: boolean;
  logprobs: number | undefined;
  maxTime: number | undefined;
  seed: number | undefined;
  promptLookupNumTokens: number | undefined;
  maxMatchingNgramSize: number;
  guidanceScale: number;
  thinkingBudget: number | undefined;
  prefixAllowedTokensFn: PrefixAllowedTokensFn | undefined;
  logitsProcessors: readonly LogitsProcessor[];
  stoppingCriteria: readonly StoppingCriterion[];
}

/**
 * Joins levels of parameters, strongest first, over the defaults of transformers. Values that do not count are not looked at: those
 * that a stronger level replaces, and those of sampling where tokens are not drawn.
 *
 * Of `maxNewTokens` and `maxLength` the one set at the strongest level counts; transformers always prefers
 * `maxNewTokens`, even one from generation_config.json to a `maxLength` of the call. The same holds for the minimum.
 */
export function resolveParameters(levels: readonly GenerationConfig[]): ResolvedParameters {
  const pick = <N extends ParameterName>(name: N): GenerationConfig[N] => {
    for (const level of levels) {
      const value = level[name];
      if (value !== undefined) return value;
    }
    return undefined;
  };
  const pickOne = <A extends ParameterName, B extends ParameterName>(first: A, second: B) => {
    const level = levels.find((level) => first in level || second in level) ?? {};
    return level[first] === undefined
      ? ([undefined, level[second]] as const)
      : ([level[first], undefined] as const);
  };
  const [maxNewTokens, maxLength] = pickOne('maxNewTokens', 'maxLength');
  const [minNewTokens = 0, minLength = 0] = pickOne('minNewTokens', 'minLength');
  const eosTokenIds = asList(pick('eosTokenId'));
  return {
    maxNewTokens: maxLength === undefined ? (maxNewTokens ?? DEFAULT_NEW_TOKENS) : undefined,
    maxLength,
    isLimited: (maxNewTokens ?? maxLength) !== undefined,
    minNewTokens,
    minLength,
    ...sampling(pick),
    repetitionPenalty: pick('repetitionPenalty') ?? 1,
    presencePenalty: pick('presencePenalty') ?? 0,
    frequencyPenalty: pick('frequencyPenalty') ?? 0,
    noRepeatNgramSize: pick('noRepeatNgramSize') ?? 0,
    badWordsIds: pick('badWordsIds') ?? [],
    sequenceBias: [...(pick('sequenceBias') ?? []), ...biasesOf(pick('logitBias') ?? {})],
    suppressTokens: pick('suppressTokens') ?? [],
    beginSuppressTokens: pick('beginSuppressTokens') ?? [],
    forcedEosTokenIds: asList(pick('forcedEosTokenId')),
    exponentialDecayLengthPenalty: pick('exponentialDecayLengthPenalty'),
    removeInvalidValues: pick('removeInvalidValues') ?? false,
    eosTokenIds,
    padTokenId: pick('padTokenId') ?? eosTokenIds[0] ?? 0,
    numBeams: pick('numBeams') ?? 1,
    earlyStopping: pick('earlyStopping') ?? false,
    lengthPenalty: pick('lengthPenalty') ?? 1,
    numReturnSequences: pick('numReturnSequences') ?? 1,
    stopStrings: asList(pick('stopStrings')),
    includeStopStrings: pick('includeStopStrings') ?? false,
    logprobs: pick('logprobs'),
    maxTime: pick('maxTime'),
    seed: pick('seed'),
    promptLookupNumTokens: pick('promptLookupNumTokens'),
    maxMatchingNgramSize: pick('maxMatchingNgramSize') ?? 2,
    guidanceScale: pick('guidanceScale') ?? 1,
    thinkingBudget: pick('thinkingBudget'),
    prefixAllowedTokensFn: pick('prefixAllowedTokensFn'),
    logitsProcessors: pick('logitsProcessors') ?? [],
    // A list of our own: a criterion may change the caller's.
    stoppingCriteria: [...(pick('stoppingCriteria') ?? [])],
  };
}

const GREEDY = {
  doSample: false,
  temperature: 1,
  topH: 0,
  topK: 50,
  topP: 1,
  minP: 0,
  typicalP: 1,
  epsilonCutoff: 0,
  etaCutoff: 0,
};

/** How tokens are drawn; sampling at temperature 0 is greedy decoding. */
function sampling(pick: <N extends ParameterName>(name: N) => GenerationConfig[N]): typeof GREEDY {
  if (!pick('doSample')) return GREEDY;
  const temperature = pick('temperature') ?? GREEDY.temperature;
  if (temperature === 0) return GREEDY;
  return {
    doSample: true,
    temperature,
    topH: pick('topH') ?? GREEDY.topH,
    topK: pick('topK') ?? GREEDY.topK,
    topP: pick('topP') ?? GREEDY.topP,
    minP: pick('minP') ?? GREEDY.minP,
    typicalP: pick('typicalP') ?? GREEDY.typicalP,
    epsilonCutoff: pick('epsilonCutoff') ?? GREEDY.epsilonCutoff,
    etaCutoff: pick('etaCutoff') ?? GREEDY.etaCutoff,
  };
}

function biasesOf(biases: Readonly<Record<string, number>>): (readonly [readonly number[], number])[] {
  return Object.entries(biases).map(([id, bias]) => [[Number(id)], bias]);
}

function asList<T>(value: T | readonly T[] | null | undefined): readonly T[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}
