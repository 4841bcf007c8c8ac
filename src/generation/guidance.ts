import { logSumExp } from './logprobs.ts';
import type { RowScores } from './token-choice.ts';

/**
 * Classifier-free guidance: what the prompt makes likelier than the negative prompt does is made likelier still. Both scores as log-softmax,
 * negative + scale · (scores − negative).
 * Source: transformers `UnbatchedClassifierFreeGuidanceLogitsProcessor`; Sanchez et al. 2023, arXiv:2306.17806.
 */
export function guided(scores: RowScores, negative: RowScores, scale: number): RowScores {
  return {
    values: new Float32Array(),
    ids: new Int32Array(),
    logits: async () => {
      const [given, against] = [await scores.logits(), await negative.logits()];
      const [a, b] = [logSumExp(given), logSumExp(against)];
      return given.map((score, id) => {
        const low = (against[id] as number) - b;
        return low + scale * (score - a - low);
      });
    },
  };
}
