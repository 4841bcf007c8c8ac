import type { Value } from '../graph/graph.ts';
import { causalConv, causalConvState } from './causal-conv.ts';
import { linears } from './linear.ts';
import { type NgramConfig, ngramTable } from './ngram-table.ts';
import { groupedNorm } from './norm.ts';
import type { LayerPass } from './pass.ts';
import type { StreamsConfig } from './residual-streams.ts';
import type { Scope } from './scope.ts';

export type NgramMemoryConfig = StreamsConfig &
  NgramConfig & {
    /** Width of what a token reads. */
    readonly ple_embed_dim: number;
    readonly ple_conv_kernel_size: number;
  };

/** Name of what a layer keeps of the memory's convolution. */
const STATE = 'memory';
/** Below this a gate's root would grow without bound. */
const LEAST_GATE = 1e-6;

/** What a memory keeps besides what its layer does. */
export function ngramMemoryStates(config: NgramMemoryConfig): Readonly<Record<string, readonly number[]>> {
  return { [STATE]: causalConvState(convSizes(config)) };
}

function convSizes({ hc_count, hidden_size, ple_conv_kernel_size: taps, ngram_size }: NgramMemoryConfig) {
  return { channels: hc_count * hidden_size, taps, dilation: ngram_size };
}

/**
 * Features of the last n-grams, gated by each stream, added to the streams (HF `Qwen4ExpTextPLELayer`).
 * @param g the layer's `ple`
 * @param residual fp32 [tokens, streams · hidden]
 * @param index which of the model's memories it is, from 0
 * @returns the residual with them
 */
export function ngramMemory(
  g: Scope,
  residual: Value,
  ids: { readonly own: Value; readonly preceding: Value },
  pass: LayerPass,
  config: NgramMemoryConfig,
  index: number,
): Value {
  const { hidden_size: hidden, hc_count: streams, ple_embed_dim: width } = config;
  const number = (value: number) => g.named((graph) => graph.float32([value], []));
  const rows = ngramTable(g.at('ple_embedding'), ids, config, index);
  const features = g.op('Reshape', [rows, g.graph.int64([0, width])]);
  const [keys, value] = linears(g, features, width, [
    { name: 'key_proj', outFeatures: streams * hidden, bias: false },
    { name: 'value_proj', outFeatures: hidden, bias: false },
  ]) as [Value, Value];
  const products = g.op('Mul', [
    groupedNorm(g.at('norm_key'), keys, streams, config),
    groupedNorm(g.at('norm_query'), residual, streams, config),
  ]);
  const sums = g.op('ReduceSum', [products, g.graph.int64([-1])], { keepdims: 1 });
  const score = g.op('Div', [sums, number(Math.sqrt(hidden))]);
  const root = g.op('Sqrt', [g.op('Max', [g.op('Abs', [score]), number(LEAST_GATE)])]);
  const gate = g.op('Sigmoid', [g.op('Mul', [root, g.op('Sign', [score])])]);
  const flat = g.graph.int64([0, streams * hidden]);
  const byStream = g.op('Mul', [gate, g.op('Unsqueeze', [value, g.graph.int64([1])])]);
  const gated = g.op('Reshape', [byStream, flat]);
  const normed = g.op('Reshape', [groupedNorm(g.at('norm_conv'), gated, streams, config), flat]);
  const mixed = causalConv(g.at('conv1d'), normed, pass, STATE, convSizes(config));
  return g.op('Add', [residual, g.op('Add', [gated, mixed])]);
}
