import { dtypeOf, ELEMENT_TYPES } from '../dtype.ts';
import type { ExpertsContext, ExpertsWeights } from '../experts/interface.ts';
import type { Value } from '../graph/graph.ts';
import type { WeightSource } from '../graph/weight-source.ts';
import type { LayerPass } from './pass.ts';
import type { Scope, Target, Variant } from './scope.ts';

export interface MoeConfig {
  readonly hidden_size: number;
  readonly moe_intermediate_size: number;
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
  readonly norm_topk_prob: boolean;
}

/**
 * Router and routed experts: softmax over all experts in fp32, the best k, optionally renormalised (HF
 * `Qwen3MoeSparseMoeBlock`).
 * @param g the layer's `mlp`
 * @param x fp32 [batch, sequence, hidden]
 * @returns fp32 [batch, sequence, hidden]
 */
export function routedExperts(g: Scope<Variant>, x: Value, pass: LayerPass, config: MoeConfig): Value {
  const { num_experts: experts, num_experts_per_tok: topK, hidden_size: hidden } = config;
  const [logits, indices, weights] = g.ownOps(
    'MoeRouter',
    [x],
    {
      weight: g.weight('gate.weight', [experts, hidden]),
      top_k: topK,
      normalize: config.norm_topk_prob ? 1 : 0,
      precision: g.precision,
    },
    3,
  ) as [Value, Value, Value];
  pass.keepRouting({ logits, indices, weights });
  const prefix = g.name('experts');
  const context = expertsContext(g.graph.weights, prefix, config, g.variant);
  const names = expertsWeights(prefix, context);
  for (const [name, shape] of tensorShapes(names, context)) g.graph.weight(name, shape);
  const inputs = { hiddenStates: x, topKIndices: indices, topKWeights: weights };
  const { implementation } = pass;
  return g.named((graph) =>
    g.variant.experts.emit(graph, { ...inputs, implementation, weights: names, context }),
  );
}

/** Where a layer's experts run, and in which of the three layouts a checkpoint has them. @param prefix of the experts' tensors */
export function expertsContext(
  stored: WeightSource,
  prefix: string,
  config: MoeConfig,
  { device, dtype }: Target,
): ExpertsContext {
  const sizes = {
    numExperts: config.num_experts,
    topK: config.num_experts_per_tok,
    hiddenSize: config.hidden_size,
    intermediateSize: config.moe_intermediate_size,
  };
  const layout = storedLayout(stored, prefix, sizes);
  const [first] = expertsWeights(prefix, { ...sizes, layout }).gate;
  const found = stored.info(first as string)?.dtype ?? '';
  return {
    device,
    dtype,
    ...sizes,
    layout,
    weightDtype: ELEMENT_TYPES[dtypeOf(found) ?? 'float32'].safetensors,
  };
}

type Sizes = Pick<ExpertsContext, 'numExperts' | 'hiddenSize' | 'intermediateSize'>;

function storedLayout(stored: WeightSource, prefix: string, sizes: Sizes): ExpertsContext['layout'] {
  const fused = expertsWeights(prefix, { ...sizes, layout: 'fused' });
  const [gateUp, down] = [...fused.gate, ...fused.down].map((name) => stored.info(name));
  if (!gateUp && !down) return 'separate';
  const [wide, narrow] = tensorShapes(fused, { ...sizes, layout: 'fused_transposed' }).map(
    ([, shape]) => shape,
  );
  // Both tensors decide together: with hidden = 2 · intermediate gate_up is square and says nothing by itself.
  const isTransposed = sameShape(gateUp?.shape, wide) && sameShape(down?.shape, narrow);
  return isTransposed ? 'fused_transposed' : 'fused';
}

function expertsWeights(
  prefix: string,
  { layout, numExperts }: Pick<ExpertsContext, 'layout' | 'numExperts'>,
): ExpertsWeights {
  if (layout !== 'separate')
    return { gate: [`${prefix}.gate_up_proj`], up: [], down: [`${prefix}.down_proj`] };
  const each = (part: string) =>
    Array.from({ length: numExperts }, (_, expert) => `${prefix}.${expert}.${part}.weight`);
  return { gate: each('gate_proj'), up: each('up_proj'), down: each('down_proj') };
}

/** Each tensor with the shape it must have. */
function tensorShapes(
  { gate, up, down }: ExpertsWeights,
  context: Sizes & Pick<ExpertsContext, 'layout'>,
): (readonly [name: string, shape: readonly number[]])[] {
  const { numExperts: count, hiddenSize: hidden, intermediateSize: intermediate } = context;
  const [wide, narrow] = {
    separate: [
      [intermediate, hidden],
      [hidden, intermediate],
    ],
    fused: [
      [count, 2 * intermediate, hidden],
      [count, hidden, intermediate],
    ],
    fused_transposed: [
      [count, hidden, 2 * intermediate],
      [count, intermediate, hidden],
    ],
  }[context.layout] as [number[], number[]];
  return [
    ...[...gate, ...up].map((name) => [name, wide] as const),
    ...down.map((name) => [name, narrow] as const),
  ];
}

function sameShape(found: readonly number[] | undefined, wanted: readonly number[] | undefined): boolean {
  return found?.length === wanted?.length && (found ?? []).every((size, i) => size === wanted?.[i]);
}
