/** What comes out of a model beside what should: routing and perplexity. */
import { expect } from 'vitest';
import type { Tensor } from '../../src/index.ts';
import { logSumExp } from './goldens.ts';

/** Accepted differences to transformers in float32, from the goldens' own spread. */
export const PLAIN = { logits: 1e-4, routerWeights: 1e-5 };
/** The norm behind the delta rule divides by numbers that may be small. */
export const HYBRID = { logits: 5e-4, routerWeights: 5e-5 };
/** The same of perplexity. */
export const PERPLEXITY = 1e-4;

/** All values of the layers' tensors, layer after layer. */
export function valuesOf(layers: readonly Tensor[] | undefined): number[] {
  return (layers ?? []).flatMap(({ data }) => [...(data as Float32Array)]);
}

/** First position where any layer chose another set of experts, or the number of positions. */
export function firstChangedRouting(a: Tensor[] | undefined, b: Tensor[] | undefined): number {
  const [, positions, k] = (a as [Tensor])[0].dims as [number, number, number];
  const sets = (tensor: Tensor | undefined, position: number) =>
    [...((tensor as Tensor).data as Int32Array).subarray(position * k, (position + 1) * k)].sort().join();
  for (let position = 0; position < positions; position++) {
    if ((a ?? []).some((tensor, layer) => sets(tensor, position) !== sets(b?.[layer], position)))
      return position;
  }
  return positions;
}

/** Equal choices; two kept experts may change places where their weights are nearly equal. */
export function expectSameChoices(
  actual: number[],
  expected: ArrayLike<number>,
  weights: ArrayLike<number>,
  k: number,
): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i += k) {
    const near = Array.from({ length: k - 1 }, (_, j) =>
      Math.abs((weights[i + j] as number) - (weights[i + j + 1] as number)),
    );
    const a = actual.slice(i, i + k);
    const b = Array.from({ length: k }, (_, j) => expected[i + j] as number);
    if (near.some((gap) => gap < 1e-5)) expect(a.sort()).toEqual(b.sort());
    else expect(a).toEqual(b);
  }
}

/** Of tokens under the logits of one row, each by those before it. */
export function perplexityOf({ data, dims }: Tensor, ids: readonly number[]): number {
  const vocab = dims[2] as number;
  let nll = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    const row = (data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
    nll += logSumExp(row) - (row[ids[i + 1] as number] as number);
  }
  return Math.exp(nll / (ids.length - 1));
}
