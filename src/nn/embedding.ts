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

/** The given rows of x flattened to [batch · sequence, width]. @param rows int64 [rows] */
export function gatherRows(g: Scope, x: Value, rows: Value, width: number): Value {
  return g.op('Gather', [g.op('Reshape', [x, g.graph.int64([-1, width])]), rows], { axis: 0 });
}
