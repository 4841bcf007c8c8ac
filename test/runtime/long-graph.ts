/** A graph that runs for many seconds in short nodes, for tests that end it early. */
import { encodeModel } from './onnx-model.ts';

export const LONG_WIDTH = 512;
export const LONG_TOKENS = 4096;

/** A chain of Linear nodes over one [512, 512] matrix; input and output `x`, `y` are [tokens, 512]. */
export function longGraph(weight: number, nodes = 5000): Uint8Array {
  const name = (i: number) => (i === 0 ? 'x' : i === nodes ? 'y' : `h${i}`);
  return encodeModel({
    inputs: [{ name: 'x', type: 'float32', shape: ['tokens', LONG_WIDTH] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['tokens', LONG_WIDTH] }],
    nodes: Array.from({ length: nodes }, (_, i) => ({
      op: 'Linear',
      inputs: [name(i)],
      outputs: [name(i + 1)],
      attributes: { weights: [weight] },
    })),
  });
}
