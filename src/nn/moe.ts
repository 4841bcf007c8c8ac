import { ConfigError } from '../errors.ts';
import type { ExpertsContext, ExpertsWeights } from '../experts/interface.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { PRECISION } from '../graph/precision.ts';
import type { DecoderConfig, GraphOptions } from './types.ts';

/** A MoE block's result, and the routing behind it. */
export interface MoeResult {
  /** fp32 [batch, sequence, hidden] */
  readonly output: Value;
  /** fp32 [batch, sequence, experts] */
  readonly routerLogits: Value;
  /** int32 [batch, sequence, k], best first */
  readonly routerIndices: Value;
  /** fp32 [batch, sequence, k] */
  readonly routerWeights: Value;
}

/**
 * Router and routed experts: softmax over all experts in fp32, the best k, optionally renormalised (HF
 * `Qwen3MoeSparseMoeBlock`).
 * @param prefix tensor prefix of the layer's `mlp`
 */
export function moeBlock(
  graph: Graph,
  x: Value,
  prefix: string,
  config: DecoderConfig,
  options: GraphOptions,
): MoeResult {
  const { num_experts: experts, num_experts_per_tok: topK, hidden_size: hidden } = config;
  const precision = PRECISION[options.dtype];
  const weight = graph.weight(`${prefix}.gate.weight`, [experts, hidden]);
  const [routerLogits, routerIndices, routerWeights] = graph.ownOps(
    'MoeRouter',
    [x],
    { weight, top_k: topK, normalize: config.norm_topk_prob ? 1 : 0, precision },
    3,
  ) as [Value, Value, Value];
  const { weights, layout, weightDtype } = findExperts(graph, `${prefix}.experts`, config);
  const context: ExpertsContext = {
    device: options.device,
    dtype: options.dtype,
    weightDtype,
    layout,
    numExperts: experts,
    topK,
    hiddenSize: hidden,
    intermediateSize: config.moe_intermediate_size,
  };
  const supported = options.experts.supports(context);
  if (supported !== true) throw new ConfigError(`the experts backend cannot serve ${prefix}: ${supported}`);
  const inputs = {
    hiddenStates: x,
    topKIndices: routerIndices,
    topKWeights: routerWeights,
    weights,
    context,
  };
  return { output: options.experts.emit(graph, inputs), routerLogits, routerIndices, routerWeights };
}

interface StoredExperts {
  readonly weights: ExpertsWeights;
  readonly layout: ExpertsContext['layout'];
  readonly weightDtype: ExpertsContext['weightDtype'];
}

/** Finds a layer's experts in whichever of the three on-disk layouts the checkpoint has. */
function findExperts(graph: Graph, prefix: string, config: DecoderConfig): StoredExperts {
  const { num_experts: count, hidden_size: hidden, moe_intermediate_size: intermediate } = config;
  const gateUp = `${prefix}.gate_up_proj`;
  const down = `${prefix}.down_proj`;
  if (graph.weights.info(gateUp) || graph.weights.info(down)) {
    // Both tensors decide together: with hidden = 2 · intermediate gate_up is square and says nothing by itself.
    const transposed =
      sameShape(graph.weights.info(gateUp)?.shape, [count, hidden, 2 * intermediate]) &&
      sameShape(graph.weights.info(down)?.shape, [count, intermediate, hidden]);
    graph.weight(gateUp, transposed ? [count, hidden, 2 * intermediate] : [count, 2 * intermediate, hidden]);
    graph.weight(down, transposed ? [count, intermediate, hidden] : [count, hidden, intermediate]);
    const weights = { gate: [gateUp], up: [], down: [down] };
    return {
      weights,
      layout: transposed ? 'fused_transposed' : 'fused',
      weightDtype: storedDtype(graph, gateUp),
    };
  }
  const names = (part: string, shape: readonly number[]) =>
    Array.from({ length: count }, (_, expert) => {
      const name = `${prefix}.${expert}.${part}.weight`;
      graph.weight(name, shape);
      return name;
    });
  const weights = {
    gate: names('gate_proj', [intermediate, hidden]),
    up: names('up_proj', [intermediate, hidden]),
    down: names('down_proj', [hidden, intermediate]),
  };
  return { weights, layout: 'separate', weightDtype: storedDtype(graph, weights.gate[0] as string) };
}

function sameShape(found: readonly number[] | undefined, wanted: readonly number[]): boolean {
  return (
    found !== undefined && found.length === wanted.length && found.every((size, i) => size === wanted[i])
  );
}

function storedDtype(graph: Graph, name: string): ExpertsContext['weightDtype'] {
  const dtype = graph.weights.info(name)?.dtype;
  return dtype === 'BF16' || dtype === 'F16' ? dtype : 'F32';
}
