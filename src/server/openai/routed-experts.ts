import { NOT_ROUTED } from '../../index.ts';
import type { AnswerEnd } from '../answer.ts';

/**
 * What a choice says of the experts of its tokens, as SGLang does: base64 of little-endian int32 [tokens, layers, k], the prompt's tokens first;
 * −1 where a layer did not compute a token. With the shape, which SGLang leaves to be known.
 */
export function routedExpertsOf({ routing }: AnswerEnd) {
  if (!routing) return {};
  const { layers, perToken, experts } = routing;
  const bytes = Buffer.alloc(4 * experts.length);
  for (const [i, expert] of experts.entries()) bytes.writeInt32LE(expert === NOT_ROUTED ? -1 : expert, 4 * i);
  const width = layers.length * perToken;
  return {
    routed_experts: bytes.toString('base64'),
    routed_experts_shape: [experts.length / width, layers.length, perToken],
  };
}
