import { ExpertsError } from '../errors.ts';
import { emitWithShared, moeExperts, type SharedExpert } from '../experts/moe-op.ts';
import type { Value } from '../graph/graph.ts';
import type { LayerPass } from './pass.ts';
import type { Scope, Variant } from './scope.ts';
import { type ExpertsSizes, expertsContext, expertsWeights, tensorShapes } from './stored-experts.ts';

export interface MoeConfig extends ExpertsSizes {
  readonly norm_topk_prob: boolean;
}

/**
 * Router and routed experts: softmax over all experts in fp32, the best k, optionally renormalised (HF
 * `Qwen3MoeSparseMoeBlock`).
 * @param g the layer's `mlp`
 * @param x fp32 [tokens, hidden]
 * @param shared is computed beside them and added; only where {@link runsSharedBeside}
 * @returns fp32 [tokens, hidden]
 * @throws ExpertsError where the variant's backend cannot serve this layer
 */
export function routedExperts(
  g: Scope<Variant>,
  x: Value,
  pass: LayerPass,
  config: MoeConfig,
  shared?: SharedExpert,
): Value {
  const { num_experts: experts, num_experts_per_tok: topK, hidden_size: hidden } = config;
  const [logits, indices, weights] = g.ownOps(
    'MoeRouter',
    [x],
    {
      weight: g.weight('gate.weight', [experts, hidden]),
      top_k: topK,
      normalize: config.norm_topk_prob ? 1 : 0,
      layer: pass.layer,
      precision: g.precision,
    },
    3,
  ) as [Value, Value, Value];
  pass.keepRouting({ logits, indices, weights });
  const prefix = g.name('experts');
  const context = expertsContext(g.graph.weights, prefix, config, g.variant);
  const { experts: backend } = g.variant;
  const supported = backend.supports(context);
  if (supported !== true) throw new ExpertsError(`The experts backend cannot serve ${prefix}: ${supported}`);
  const names = expertsWeights(prefix, context);
  const own = backend === moeExperts;
  for (const [name, shape] of tensorShapes(names, context))
    own ? g.graph.weight(name, shape) : g.graph.foreign(name, shape);
  const routing = { hiddenStates: x, topKIndices: indices, topKWeights: weights };
  const inputs = { ...routing, implementation: pass.implementation, weights: names, context };
  return g.named((graph) => (shared ? emitWithShared(graph, inputs, shared) : backend.emit(graph, inputs)));
}

/** Whether a variant's routed experts can have a shared one beside them: in the built-in op, on the CPU. */
export function runsSharedBeside({ experts, device }: Variant): boolean {
  return experts === moeExperts && device === 'cpu';
}
