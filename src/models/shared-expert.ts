import type { Value } from '../graph/graph.ts';
import { gatedMlp, mlpWeights } from '../nn/mlp.ts';
import { type MoeConfig, routedExperts, runsSharedBeside } from '../nn/moe.ts';
import type { LayerPass } from '../nn/pass.ts';
import type { Scope, Variant } from '../nn/scope.ts';

/** Routed experts plus a shared expert behind a sigmoid gate: HF `Qwen2MoeSparseMoeBlock`. See {@link routedExperts}. @param g the layer's `mlp` */
export function expertsWithShared(
  g: Scope<Variant>,
  x: Value,
  pass: LayerPass,
  config: MoeConfig & { readonly shared_expert_intermediate_size: number },
): Value {
  const { hidden_size: hidden, shared_expert_intermediate_size: intermediate } = config;
  const outputGate = g.weight('shared_expert_gate.weight', [1, hidden]);
  const shared = g.at('shared_expert');
  if (runsSharedBeside(g.variant)) {
    const weights = mlpWeights(shared, hidden, intermediate);
    return routedExperts(g, x, pass, config, { ...weights, outputGate });
  }
  const routed = routedExperts(g, x, pass, config);
  return g.op('Add', [routed, gatedMlp(shared, x, hidden, intermediate, outputGate)]);
}
