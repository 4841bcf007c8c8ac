import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { highest } from './shortlist.ts';

/** A token and how likely the model took it to be. */
export interface TokenLogprob {
  id: number;
  /** Natural logarithm of its probability by the model's own logits, before processors and filters. */
  logprob: number;
  /** Text of the token; part of a character is U+FFFD. Where the tokenizer is known. */
  text?: string;
  /** Its bytes: those of a character may come in several tokens. Where the tokenizer is known. */
  bytes?: number[];
}

/** A chosen token, with the likeliest ones at its place. */
export interface TokenLogprobs extends TokenLogprob {
  /** Best first; as many as `logprobs` says. */
  top: TokenLogprob[];
}

/** Log-probabilities of a token and of the `count` likeliest, from a row's logits [vocab]. */
export function logprobsOf(
  logits: Float32Array,
  token: number,
  count: number,
  tokenizer: Tokenizer | undefined,
): TokenLogprobs {
  const normalizer = logSumExp(logits);
  const describe = (id: number): TokenLogprob => ({
    id,
    logprob: (logits[id] as number) - normalizer,
    ...textOf(id, tokenizer),
  });
  const ids = count > 0 ? [...highest(logits, count).ids.subarray(0, count)] : [];
  return { ...describe(token), top: ids.map(describe) };
}

function textOf(id: number, tokenizer: Tokenizer | undefined): Pick<TokenLogprob, 'text' | 'bytes'> {
  if (!tokenizer) return {};
  const bytes = tokenizer.tokenBytes(id) ?? new Uint8Array();
  return { text: Buffer.from(bytes).toString('utf8'), bytes: [...bytes] };
}

/** log Σ exp, in double precision; NaN counts as −∞. */
export function logSumExp(logits: Float32Array): number {
  let max = -Infinity;
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) > max) max = logits[id] as number;
  if (max === -Infinity) return max;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit > -Infinity) sum += Math.exp(logit - max);
  }
  return max + Math.log(sum);
}
