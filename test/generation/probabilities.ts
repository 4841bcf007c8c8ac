import type { Candidates } from '../../src/generation/candidates.ts';

/** Probabilities of the candidates, in their order. */
export function probabilitiesOf(candidates: Candidates): Float64Array {
  const total = candidates.weigh();
  return candidates.weights.slice(0, candidates.count).map((weight) => weight / total);
}
