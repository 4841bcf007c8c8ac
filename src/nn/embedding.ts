import type { Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

/**
 * Rows of the scope's `weight`.
 * @param ids int64 […]
 * @returns fp32 […, width]
 */
export function embedding(g: Scope, ids: Value, rows: number, width: number): Value {
  return g.ownOps('Embedding', [ids], { weight: g.table('weight', [rows, width]) })[0] as Value;
}

/** Some rows of x [tokens, width]. @param rows int64 [wanted] */
export function gatherRows(g: Scope, x: Value, rows: Value): Value {
  return g.op('Gather', [x, rows], { axis: 0 });
}
