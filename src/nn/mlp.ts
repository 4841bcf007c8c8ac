import type { Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

/** Handles of the matrices of an MLP: gate and up [intermediate, hidden], down [hidden, intermediate]. */
export function mlpWeights(g: Scope, hidden: number, intermediate: number) {
  return {
    gate: g.weight('gate_proj.weight', [intermediate, hidden]),
    up: g.weight('up_proj.weight', [intermediate, hidden]),
    down: g.weight('down_proj.weight', [hidden, intermediate]),
  };
}

/**
 * down(silu(gate x) · up x): HF `Qwen2MoeMLP`.
 * @param x fp32 […, hidden]
 * @param outputGate handle of [1, hidden], whose product with x, through a sigmoid, scales the result; -1: none
 * @returns fp32 […, hidden]
 */
export function gatedMlp(g: Scope, x: Value, hidden: number, intermediate: number, outputGate = -1): Value {
  const [output] = g.ownOps('GatedMlp', [x], {
    ...mlpWeights(g, hidden, intermediate),
    output_gate: outputGate,
    ...g.computing,
  });
  return output as Value;
}
