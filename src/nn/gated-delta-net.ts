import { float, type Value } from '../graph/graph.ts';
import type { RecurrentSpec } from './cache-spec.ts';
import { depthwiseKernel } from './causal-conv.ts';
import { gatherRows } from './embedding.ts';
import { linear, linears } from './linear.ts';
import type { LayerPass } from './pass.ts';
import type { Scope } from './scope.ts';

export interface DeltaNetConfig {
  readonly hidden_size: number;
  readonly rms_norm_eps: number;
  readonly linear_num_key_heads: number;
  readonly linear_num_value_heads: number;
  readonly linear_key_head_dim: number;
  readonly linear_value_head_dim: number;
  /** Taps of the causal convolution. */
  readonly linear_conv_kernel_dim: number;
  /** What `z` goes through before it scales what is mixed. Default `silu`. */
  readonly output_gate_type?: 'silu' | 'swish' | 'sigmoid';
}

/** How a family projects the input. */
export type DeltaNetProjections =
  /** `in_proj_qkvz` and `in_proj_ba`, each by key head. */
  | 'grouped'
  /** `in_proj_qkv`, `in_proj_z`, `in_proj_b` and `in_proj_a`. */
  | 'separate';

/** What a gated delta net keeps: the convolution's last inputs, oldest first, and the state of each value head. */
export function deltaNetCache(config: DeltaNetConfig): RecurrentSpec {
  const { linear_num_value_heads: valueHeads, linear_value_head_dim: valueDim } = config;
  return {
    kind: 'recurrent',
    states: {
      conv: [config.linear_conv_kernel_dim - 1, channelsOf(config)],
      state: [valueHeads, config.linear_key_head_dim, valueDim],
    },
  };
}

/** Channels of the convolution: all queries, then keys, then values. */
function channelsOf(config: DeltaNetConfig): number {
  const { linear_num_key_heads: keyHeads, linear_num_value_heads: valueHeads } = config;
  return 2 * keyHeads * config.linear_key_head_dim + valueHeads * config.linear_value_head_dim;
}

/**
 * Linear attention by the gated delta rule (Yang et al. 2024, arXiv:2412.06464; HF `Qwen3NextGatedDeltaNet`,
 * `Qwen3_5MoeGatedDeltaNet`). `A_log` and the norm are fp32 in every precision, and so are the states.
 * @param g the layer's `linear_attn`
 * @param x fp32 [tokens, hidden]
 * @returns fp32 [tokens, hidden], or [wanted, hidden] of the tokens that the pass wants
 */
export function gatedDeltaNet(
  g: Scope,
  x: Value,
  pass: LayerPass,
  config: DeltaNetConfig,
  stored: DeltaNetProjections,
): Value {
  const { linear_num_key_heads: keyHeads, linear_num_value_heads: valueHeads } = config;
  const values = valueHeads * config.linear_value_head_dim;
  const [qkv, z, b, a] = project(g, x, config, stored) as [Value, Value, Value, Value];
  const isSigmoid = config.output_gate_type === 'sigmoid';
  const [mixed, conv, state] = g.ownOps(
    'GatedDeltaNet',
    [
      ...[qkv, z, b, a],
      depthwiseKernel(g.at('conv1d'), channelsOf(config), config.linear_conv_kernel_dim),
      g.vector('A_log', [valueHeads]),
      g.vector('dt_bias', [valueHeads]),
      g.at('norm').vector('weight', [config.linear_value_head_dim]),
      ...[pass.pastState('conv'), pass.pastState('state')],
      ...[pass.rowStarts, pass.pastLengths, pass.stateSlots],
    ],
    {
      key_heads: keyHeads,
      grouped: stored === 'grouped' ? 1 : 0,
      epsilon: float(config.rms_norm_eps),
      ...(isSigmoid ? { gated: 0 } : {}),
    },
    3,
  ) as [Value, Value, Value];
  pass.keepStates({ conv, state });
  const gated = isSigmoid ? g.op('Mul', [mixed, g.op('Sigmoid', [z])]) : mixed;
  const wanted = pass.rows ? gatherRows(g, gated, pass.rows) : gated;
  return linear(g.at('out_proj'), wanted, values, config.hidden_size, false);
}

/** Inputs qkv, z, b and a of the op: see the table of ops. */
function project(g: Scope, x: Value, config: DeltaNetConfig, stored: DeltaNetProjections): Value[] {
  const { hidden_size: hidden, linear_num_value_heads: valueHeads } = config;
  const values = valueHeads * config.linear_value_head_dim;
  const channels = channelsOf(config);
  const matrix = (name: string, outFeatures: number) => ({
    name: `in_proj_${name}`,
    outFeatures,
    bias: false,
  });
  if (stored === 'separate') {
    const sizes = { qkv: channels, z: values, b: valueHeads, a: valueHeads };
    return linears(
      g,
      x,
      hidden,
      Object.entries(sizes).map(([name, size]) => matrix(name, size)),
    );
  }
  const both = [matrix('qkvz', channels + values), matrix('ba', 2 * valueHeads)];
  const [qkvz, ba] = linears(g, x, hidden, both) as [Value, Value];
  return [qkvz, qkvz, ba, ba];
}
