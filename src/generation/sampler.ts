import { EngineError, InputError } from '../errors.ts';
import {
  Candidates,
  drawCandidate,
  fillCandidates,
  fillFromTop,
  keepEpsilon,
  keepEta,
  keepMinP,
  keepTopH,
  keepTopK,
  keepTopP,
  keepTypical,
  TOP_H_CANDIDATES,
} from './candidates.ts';
import type { Random } from './random.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';
import type { Shortlist } from './shortlist.ts';

/** Chooses the next token of a row from its scores. */
export interface Sampler {
  /** How many of the highest scores the choice is made from; 0: from all. */
  readonly wanted: number;
  /** Gives the same token as `fromAll`, or undefined, without a draw, where the list does not settle it. */
  fromTop(list: Shortlist, random: Random): number | undefined;
  /** Chooses from all scores [vocab]. */
  fromAll(scores: Float32Array, random: Random): number;
}

/** Greedy decoding: the highest score, of equal ones the lowest id. */
export function chooseLikeliest(scores: Float32Array): number {
  let best = -1;
  let max = -Infinity;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score > max) {
      max = score;
      best = id;
    }
  }
  return best === -1 ? refuse(scores) : best;
}

/** The filters that follow temperature and top-k. */
type Filters = Pick<ResolvedParameters, 'topP' | 'minP' | 'typicalP'> &
  Partial<Pick<ResolvedParameters, 'epsilonCutoff' | 'etaCutoff' | 'topH'>>;

/** Applies the filters of sampling in transformers' order: temperature, top-h, top-k, top-p, min-p, typical, epsilon, eta. */
export function filterScores(
  candidates: Candidates,
  scores: Float32Array,
  parameters: Filters & Pick<ResolvedParameters, 'temperature' | 'topK'>,
): void {
  fillCandidates(candidates, scores, parameters.temperature, firstCut(parameters));
  if (candidates.count === 0) refuse(scores);
  narrow(candidates, parameters);
}

/** The highest scores that the first filter leaves: top-h comes before top-k. */
function firstCut({ topH = 0, topK }: Pick<Filters, 'topH'> & Pick<ResolvedParameters, 'topK'>): number {
  return topH > 0 ? TOP_H_CANDIDATES : topK;
}

function narrow(candidates: Candidates, parameters: Filters & Pick<ResolvedParameters, 'topK'>): void {
  const { epsilonCutoff = 0, etaCutoff = 0, topH = 0 } = parameters;
  if (topH > 0) {
    keepTopH(candidates, topH);
    keepTopK(candidates, parameters.topK);
  }
  if (parameters.topP < 1) keepTopP(candidates, parameters.topP);
  if (parameters.minP > 0) keepMinP(candidates, parameters.minP);
  if (parameters.typicalP < 1) keepTypical(candidates, parameters.typicalP);
  if (epsilonCutoff > 0) keepEpsilon(candidates, epsilonCutoff);
  if (etaCutoff > 0) keepEta(candidates, etaCutoff);
}

/** Greedy decoding or sampling, as the parameters say. */
export function makeSampler(parameters: ResolvedParameters, vocabSize: number): Sampler {
  return parameters.doSample ? new FilteringSampler(parameters, vocabSize) : GREEDY;
}

const GREEDY: Sampler = {
  wanted: 1,
  fromTop: ({ values, ids, floor, floorId }) => {
    const value = values[0] ?? -Infinity;
    if (value === -Infinity) return undefined;
    return value > floor || (value === floor && (ids[0] as number) <= floorId) ? ids[0] : undefined;
  },
  fromAll: chooseLikeliest,
};

class FilteringSampler implements Sampler {
  readonly wanted: number;
  readonly #parameters: ResolvedParameters;
  /** Apart, so that few candidates need no arrays of the vocabulary's length. */
  readonly #few: Candidates;
  #all: Candidates | undefined;

  constructor(parameters: ResolvedParameters, vocabSize: number) {
    const cut = firstCut(parameters);
    this.wanted = cut < vocabSize ? cut : 0;
    this.#parameters = parameters;
    this.#few = new Candidates(this.wanted);
  }

  fromTop(list: Shortlist, random: Random): number | undefined {
    const { temperature } = this.#parameters;
    const isSettled = fillFromTop(this.#few, list, temperature, firstCut(this.#parameters));
    if (!isSettled || this.#few.count === 0) return undefined;
    narrow(this.#few, this.#parameters);
    return drawCandidate(this.#few, random.uniform());
  }

  fromAll(scores: Float32Array, random: Random): number {
    this.#all ??= new Candidates(scores.length);
    filterScores(this.#all, scores, this.#parameters);
    return drawCandidate(this.#all, random.uniform());
  }
}

/** @throws the error for scores none of which is above −∞ */
export function refuse(scores: Float32Array): never {
  if (scores.some(Number.isNaN)) {
    throw new EngineError(
      'The model computed no number for any token (all logits are NaN); its weights may be damaged, or the codes or scales of quantized ones',
    );
  }
  if (scores.includes(Infinity))
    throw new InputError(
      'A score is infinite, so that no probability is a number. removeInvalidValues: true takes the largest number instead',
    );
  throw new InputError(
    'No token is left to choose: all are forbidden by badWordsIds, suppressTokens, noRepeatNgramSize, a minimum length, a constraint ' +
      'or a processor of your own',
  );
}
