/** Layers of quantized experts, beside the same of float32. */
import { afterEach } from 'vitest';
import { Tensor } from '../../../src/runtime/ort.ts';
import type { WeightStore } from '../../../src/runtime/types.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import type { QuantizedTensor } from '../../../src/weights/quantized-tensor.ts';
import { pattern } from '../stored-tensors.ts';
import { int8 } from './int8-weight.ts';
import { float, runOp, store } from './run-op.ts';

/** Disposed of after the test. */
export const stores: WeightStore[] = [];
afterEach(() => {
  for (const open of stores.splice(0)) open.dispose();
});

/** A store of quantized weights, and one of their values. */
export function both(quantized: readonly QuantizedTensor[]): [coded: WeightStore, plain: WeightStore] {
  const coded = openWeightStore([], quantized);
  stores.push(coded);
  const plain = store(
    quantized.map(({ name, shape }) => ({ name, shape: [...shape], values: coded.readFloat32(name) })),
  );
  return [coded, plain];
}

export const LAYOUTS = ['separate', 'fused', 'fused_transposed'] as const;
export type Layout = (typeof LAYOUTS)[number];

export interface LayerSizes {
  experts: number;
  hidden: number;
  intermediate: number;
}

/** The experts of a layer in one of the layouts. */
export function experts(layout: Layout, { experts: E, hidden: H, intermediate: I }: LayerSizes, block = 4) {
  if (layout === 'fused') return [int8('gate', [E, 2 * I, H], block), int8('down', [E, H, I], block)];
  if (layout === 'fused_transposed')
    return [int8('gate', [E, H, 2 * I], block), int8('down', [E, I, H], block)];
  return Array.from({ length: E }, (_, e) => [
    int8(`gate.${e}`, [I, H], block),
    int8(`up.${e}`, [I, H], block),
    int8(`down.${e}`, [H, I], block),
  ]).flat();
}

type Call = Parameters<typeof runOp>[0];

/** Two of three experts for each of three tokens. */
export async function runExperts(
  weights: WeightStore,
  layout: Layout,
  { experts: E, hidden, intermediate }: LayerSizes,
  implementation: number,
  on?: Call['on'],
) {
  const handles = (part: string) => {
    if (layout === 'separate') return Array.from({ length: E }, (_, e) => weights.handle(`${part}.${e}`));
    return part === 'up' ? [] : [weights.handle(part)];
  };
  const { y } = await runOp({
    op: 'MoeExperts',
    weights,
    attributes: {
      ...{ layout, num_experts: E, hidden, intermediate, gate: handles('gate'), down: handles('down') },
      ...(layout === 'separate' && { up: handles('up') }),
    },
    inputs: {
      x: new Tensor('float32', pattern(3 * hidden, 9), [3, hidden]),
      indices: new Tensor('int32', Int32Array.of(0, 2, 2, 1, 1, 0), [3, 2]),
      scores: new Tensor('float32', pattern(6, 8), [3, 2]),
      implementation: new Tensor('int32', Int32Array.of(implementation), []),
    },
    outputs: [float('y', 2)],
    ...(on && { on }),
  });
  return y;
}
