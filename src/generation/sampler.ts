import { EngineError, InputError } from '../errors.ts';
import {
  Candidates,
  drawCandidate,
  fillCandidates,
  fillFromTop,
  keepEpsilon,
  keepEta,
  keepMinP,
  keepTopP,
  keepTypical,
} from './candidates.ts';
import type { Random } from './random.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';

/** Chooses the next token of a row. */
export interface TokenChooser {
  /** How many of the highest logits usually settle the choice; 0: it takes them all. */
  readonly candidates: number;
  /**
   * Chooses from the `candidates` highest logits, best first. Gives the same token as `fromLogits`, or undefined, without a draw,
   * where they do not settle it.
   */
  fromTop(values: Float32Array, ids: Int32Array, random: Random): number | undefined;
  /** Chooses from all logits [vocab], after the score processors. */
  fromLogits(scores: Float32Array, random: Random): number;
}

/** Greedy decoding: the highest logit, of equal ones the lowest id. */
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
  Partial<Pick<ResolvedParameters, 'epsilonCutoff' | 'etaCutoff'>>;

/** Applies the filters of sampling in transformers' order: temperature, top-k, top-p, min-p, typical, epsilon, eta. */
export function filterScores(
  candidates: Candidates,
  scores: Float32Array,
  parameters: Filters & Pick<ResolvedParameters, 'temperature' | 'topK'>,
): void {
  fillCandidates(candidates, scores, parameters.temperature, parameters.topK);
  if (candidates.count === 0) refuse(scores);
  narrow(candidates, parameters);
}

function narrow(candidates: Candidates, parameters: Filters): void {
  const { epsilonCutoff = 0, etaCutoff = 0 } = parameters;
  if (parameters.topP < 1) keepTopP(candidates, parameters.topP);
  if (parameters.minP > 0) keepMinP(candidates, parameters.minP);
  if (parameters.typicalP < 1) keepTypical(candidates, parameters.typicalP);
  if (epsilonCutoff > 0) keepEpsilon(candidates, epsilonCutoff);
  if (etaCutoff > 0) keepEta(candidates, etaCutoff);
}

/** Greedy decoding or sampling, as the parameters say. */
export function tokenChooser(parameters: ResolvedParameters, vocabSize: number): TokenChooser {
  return parameters.doSample ? new SamplingChooser(parameters, vocabSize) : GREEDY;
}

const GREEDY: TokenChooser = {
  candidates: 1,
  fromTop: (values, ids) => ((values[0] as number) > -Infinity ? ids[0] : undefined),
  fromLogits: chooseLikeliest,
};

/** Logits listed beyond the `topK` highest, for what ties with the last of these; the default of 50 makes 64. */
const MARGIN = 14;
/** Longer lists would cost more than the logits themselves. */
const MOST_CANDIDATES = 1024;

class SamplingChooser implements TokenChooser {
  readonly candidates: number;
  readonly #parameters: ResolvedParameters;
  readonly #vocabSize: number;
  readonly #few: Candidates;
  #all: Candidates | undefined;

  constructor(parameters: ResolvedParameters, vocabSize: number) {
    const listed = Math.min(parameters.topK + MARGIN, vocabSize);
    const isShort = parameters.topK > 0 && parameters.topK < vocabSize && listed <= MOST_CANDIDATES;
    this.candidates = isShort ? listed : 0;
    this.#parameters = parameters;
    this.#vocabSize = vocabSize;
    this.#few = new Candidates(this.candidates);
  }

  fromTop(values: Float32Array, ids: Int32Array, random: Random): number | undefined {
    const { temperature, topK } = this.#parameters;
    if (!fillFromTop(this.#few, values, ids, temperature, topK) || this.#few.count === 0) return undefined;
    narrow(this.#few, this.#parameters);
    return drawCandidate(this.#few, random.uniform());
  }

  fromLogits(scores: Float32Array, random: Random): number {
    this.#all ??= new Candidates(this.#vocabSize);
    filterScores(this.#all, scores, this.#parameters);
    return drawCandidate(this.#all, random.uniform());
  }
}

function refuse(scores: Float32Array): never {
  if (scores.some(Number.isNaN)) {
    throw new EngineError(
      'The model computed no number for any token (all logits are NaN); its weights may be damaged',
    );
  }
  throw new InputError(
    'No token is left to choose: all are forbidden by badWordsIds, suppressTokens, noRepeatNgramSize, a minimum length or a processor of your own',
  );
}
