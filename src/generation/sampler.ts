import { EngineError, InputError } from '../errors.ts';
import { Candidates, drawCandidate, fillCandidates, keepMinP, keepTopP, keepTypical } from './candidates.ts';
import type { ResolvedParameters } from './generation-config.ts';
import type { Random } from './random.ts';

/** Chooses a token from one row of logits [vocab], after the score processors. */
export type TokenChooser = (scores: Float32Array, random: Random) => number;

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

/** Applies the filters of sampling in transformers' order: temperature, top-k, top-p, min-p, typical. */
export function filterScores(
  candidates: Candidates,
  scores: Float32Array,
  parameters: Pick<ResolvedParameters, 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP'>,
): void {
  fillCandidates(candidates, scores, parameters.temperature, parameters.topK);
  if (candidates.count === 0) refuse(scores);
  if (parameters.topP < 1) keepTopP(candidates, parameters.topP);
  if (parameters.minP > 0) keepMinP(candidates, parameters.minP);
  if (parameters.typicalP < 1) keepTypical(candidates, parameters.typicalP);
}

/** Greedy decoding or sampling, as the parameters say. */
export function tokenChooser(parameters: ResolvedParameters, vocabSize: number): TokenChooser {
  if (!parameters.doSample) return chooseLikeliest;
  const candidates = new Candidates(vocabSize);
  return (scores, random) => {
    filterScores(candidates, scores, parameters);
    return drawCandidate(candidates, random.uniform());
  };
}

function refuse(scores: Float32Array): never {
  if (scores.some(Number.isNaN)) {
    throw new EngineError(
      'The model computed no number for any token (all logits are NaN): its weights may be damaged.',
    );
  }
  throw new InputError(
    'No token is left to choose: all are forbidden by badWordsIds, noRepeatNgramSize, a minimum length or a processor of your own.',
  );
}
