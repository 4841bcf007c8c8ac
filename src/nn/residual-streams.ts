import type { Value } from '../graph/graph.ts';
import { gatherRows } from './embedding.ts';
import { linears } from './linear.ts';
import { groupedNorm } from './norm.ts';
import type { Scope } from './scope.ts';

export interface StreamsConfig {
  readonly hidden_size: number;
  readonly rms_norm_eps: number;
  readonly normOffset?: number;
  /** Streams of the residual. */
  readonly hc_count: number;
  /** Width in between where it is worked out how they mix. */
  readonly hc_lowrank: number;
}

/** What a sublayer takes from the streams, and where its result goes. */
export interface StreamsInput {
  /** fp32 [tokens, hidden] */
  readonly x: Value;
  /** Adds the sublayer's result. @param rows int64 [wanted]: the tokens that it is of, where not all @returns fp32 [wanted, streams · hidden] */
  inject(output: Value, rows?: Value): Value;
}

/** The residual at the beginning: every stream is the embedding. @param x fp32 [tokens, hidden] */
export function openStreams(g: Scope, x: Value, { hc_count: streams }: StreamsConfig): Value {
  return g.op('Concat', Array(streams).fill(x), { axis: 1 });
}

/**
 * What a sublayer reads of the streams (HF `Qwen4ExpTextGatedResidual`; after Zhu et al. 2024, arXiv:2409.19606).
 * @param residual fp32 [tokens, streams · hidden]
 */
export function readStreams(g: Scope, residual: Value, config: StreamsConfig): StreamsInput {
  const { hidden_size: hidden, hc_count: streams } = config;
  const { x, weights } = mix(g, residual, config, [
    { name: 'block_inject_weight', outFeatures: streams, bias: false },
  ]);
  const scale = g.op('Mul', [
    g.op('Sigmoid', [overStreams(g, weights as Value, streams)]),
    g.named((graph) => graph.float32([2], [])),
  ]);
  const wanted = (value: Value, rows: Value | undefined) => (rows ? gatherRows(g, value, rows) : value);
  return {
    x,
    inject: (output, rows) => {
      const byStream = g.op('Mul', [
        g.op('Unsqueeze', [wanted(scale, rows), g.graph.int64([2])]),
        g.op('Unsqueeze', [output, g.graph.int64([1])]),
      ]);
      const flat = g.op('Reshape', [byStream, g.graph.int64([0, streams * hidden])]);
      return g.op('Add', [wanted(residual, rows), flat]);
    },
  };
}

/** The streams as one, at the end: fp32 [tokens, hidden]. */
export function closeStreams(g: Scope, residual: Value, config: StreamsConfig): Value {
  return mix(g, residual, config, []).x;
}

type Projections = Parameters<typeof linears>[3];

/** The mean of the normed streams, each value weighted by a gate that sees all of them; and what else is projected from them. */
function mix(
  g: Scope,
  residual: Value,
  config: StreamsConfig,
  more: Projections,
): { x: Value; weights: Value | undefined } {
  const { hidden_size: hidden, hc_count: streams, hc_lowrank: rank } = config;
  const width = streams * hidden;
  const normed = groupedNorm(g.at('hc_norm'), residual, streams, config);
  const flat = g.op('Reshape', [normed, g.graph.int64([0, width])]);
  const down = { name: 'input_mix_weight_down', outFeatures: rank, bias: false };
  const [low, weights] = linears(g, flat, width, [down, ...more]) as [Value, Value?];
  const scaled = overStreams(g, low, streams);
  const activated = g.op('Mul', [scaled, g.op('Sigmoid', [scaled])]);
  const up = { name: 'input_mix_weight_up', outFeatures: width, bias: false };
  const [gates] = linears(g, activated, rank, [up]) as [Value];
  const byStream = g.op('Reshape', [g.op('Sigmoid', [gates]), g.graph.int64([0, streams, hidden])]);
  const x = g.op('ReduceMean', [g.op('Mul', [byStream, normed]), g.graph.int64([1])], { keepdims: 0 });
  return { x, weights };
}

function overStreams(g: Scope, value: Value, streams: number): Value {
  return g.op('Div', [value, g.named((graph) => graph.float32([streams], []))]);
}
