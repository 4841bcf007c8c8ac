import type { Value } from '../graph/graph.ts';
import type { LayerPass } from './pass.ts';
import type { Scope } from './scope.ts';

/** The scope's `weight` of a depthwise convolution, stored [channels, 1, taps], as [taps, channels]. */
export function depthwiseKernel(g: Scope, channels: number, taps: number): Value {
  return g.vector('weight', [channels, 1, taps], {
    shape: [taps, channels],
    values: (stored) =>
      stored.map((_, i) => stored[(i % channels) * taps + Math.floor(i / channels)] as number),
  });
}

export interface CausalConvSizes {
  readonly channels: number;
  readonly taps: number;
  /** Tokens from tap to tap. */
  readonly dilation: number;
}

/** Shape of what a causal convolution keeps of a sequence: its last inputs, oldest first. */
export function causalConvState({ channels, taps, dilation }: CausalConvSizes): readonly number[] {
  return [(taps - 1) * dilation, channels];
}

/**
 * silu of a depthwise convolution over each token and the ones before it in its sequence, with the scope's `weight`.
 * @param x fp32 [tokens, channels]
 * @param state name of what the layer keeps of it
 * @returns fp32 [tokens, channels]
 */
export function causalConv(
  g: Scope,
  x: Value,
  pass: LayerPass,
  state: string,
  sizes: CausalConvSizes,
): Value {
  const kernel = depthwiseKernel(g, sizes.channels, sizes.taps);
  const rows = [pass.rowStarts, pass.pastLengths, pass.stateSlots];
  const [y, present] = g.ownOps(
    'CausalConv',
    [x, kernel, pass.pastState(state), ...rows],
    { dilation: sizes.dilation },
    2,
  ) as [Value, Value];
  pass.keepStates({ [state]: present });
  return y;
}
