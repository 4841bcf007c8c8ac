import { InputError, show } from '../errors.ts';
import type { GenerationConfig, ParameterName } from './parameters.ts';
import { type ResolvedParameters, resolveParameters } from './resolve-parameters.ts';

/** What some parameters count beside only. */
interface Companion {
  /** The parameters, with the values at which they ask for nothing. */
  readonly dependents: Partial<Readonly<Record<ParameterName, readonly unknown[]>>>;
  isGiven(parameters: ResolvedParameters): boolean;
  /** What to set. */
  readonly wanted: string;
}

const SAMPLING: Companion = {
  dependents: {
    temperature: [1],
    topH: [0],
    topK: [0, 50],
    topP: [1],
    minP: [0],
    typicalP: [1],
    epsilonCutoff: [0],
    etaCutoff: [0],
  },
  isGiven: ({ doSample }) => doSample,
  wanted: 'doSample: true (--temperature)',
};

const COMPANIONS: readonly Companion[] = [
  SAMPLING,
  {
    dependents: { earlyStopping: [false], lengthPenalty: [1] },
    isGiven: ({ numBeams }) => numBeams > 1,
    wanted: 'numBeams above 1',
  },
  {
    dependents: { maxMatchingNgramSize: [2] },
    isGiven: ({ promptLookupNumTokens }) => promptLookupNumTokens !== undefined,
    wanted: 'promptLookupNumTokens',
  },
  {
    dependents: { includeStopStrings: [false] },
    isGiven: ({ stopStrings }) => stopStrings.length > 0,
    wanted: 'stopStrings',
  },
  {
    dependents: { exponentialDecayLengthPenalty: [] },
    isGiven: ({ eosTokenIds }) => eosTokenIds.length > 0,
    wanted: 'eosTokenId',
  },
];

/**
 * Refuses parameters of a call that would change nothing, because what they count beside is off. A level may be made for calls that differ: one
 * that brings what its parameters need is in order, even where a stronger level switches that off. So is a call that chooses greedy decoding in
 * so many words, whatever it says of sampling.
 *
 * @param given levels of the call, strongest first
 * @param defaults of generation_config.json, which transformers fills with what it does not need either
 * @throws InputError names the parameter, and what it needs
 */
export function refuseIdle(
  given: readonly { readonly where: string; readonly level: GenerationConfig }[],
  defaults: GenerationConfig,
  resolved: ResolvedParameters,
): void {
  const levels = [...given.map(({ level }) => level), defaults];
  const isGreedyByChoice = given.some(({ level }) => level.doSample !== undefined);
  for (const companion of COMPANIONS) {
    if (companion.isGiven(resolved) || (companion === SAMPLING && isGreedyByChoice)) continue;
    for (const [i, { where, level }] of given.entries()) {
      const name = idleOne(level, companion);
      if (name === undefined || companion.isGiven(resolveParameters(levels.slice(i)))) continue;
      throw new InputError(
        `${where}: ${name} is ${show(level[name])}, which has no effect without ${companion.wanted}. Set that, or leave ${name} out`,
      );
    }
  }
}

function idleOne(level: GenerationConfig, { dependents }: Companion): ParameterName | undefined {
  const names = Object.keys(dependents) as ParameterName[];
  return names.find((name) => level[name] !== undefined && !dependents[name]?.includes(level[name]));
}
