import type { Value } from '../graph/graph.ts';
import { linear } from './linear.ts';
import type { Scope } from './scope.ts';

export interface Scores {
  /** fp32 [rows, vocab] */
  readonly logits: Value;
  /** The highest logits of each row, best first, fp32 [rows, count], and their ids, int32 [rows, count]. */
  readonly candidates: { readonly logits: Value; readonly ids: Value };
}

/**
 * Logits by the scope's `weight`, and the highest of each row: generation fetches only these few, where they settle the next token.
 * @param x fp32 [rows, hidden]
 * @param count int32 []: how many of the highest
 */
export function lmHead(g: Scope, x: Value, hidden: number, vocab: number, count: Value): Scores {
  const logits = linear(g, x, hidden, vocab, false);
  const [values, ids] = g.ownOps('TopCandidates', [logits, count], {}, 2) as [Value, Value];
  return { logits, candidates: { logits: values, ids } };
}
