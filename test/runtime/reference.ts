/** The custom ops in plain JavaScript, in double precision. Matrices are row-major [out, in]. */

export interface Matrix {
  values: Float32Array;
  rows: number;
  cols: number;
}

export const silu = (x: number) => x / (1 + Math.exp(-x));
export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** matrix · x */
export function multiply({ values, rows, cols }: Matrix, x: ArrayLike<number>): number[] {
  return Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let k = 0; k < cols; k++) sum += (values[row * cols + k] as number) * (x[k] as number);
    return sum;
  });
}

/** Applies `f` to each row of `x` and joins the results. */
export function mapRows(
  x: Float32Array,
  width: number,
  f: (row: Float32Array, i: number) => number[],
): number[] {
  const rows = Array.from({ length: x.length / width }, (_, i) => x.subarray(i * width, (i + 1) * width));
  return rows.flatMap(f);
}

export interface Mlp {
  gate: Matrix;
  up: Matrix;
  down: Matrix;
}

/** down(silu(gate x) * up x) */
export function gatedMlp({ gate, up, down }: Mlp, x: ArrayLike<number>): number[] {
  const ups = multiply(up, x);
  return multiply(
    down,
    multiply(gate, x).map((g, i) => silu(g) * (ups[i] as number)),
  );
}

/** Softmax over experts, the `k` largest first, divided by their sum if `normalize`. */
export function route(logits: readonly number[], k: number, normalize: boolean) {
  const top = Math.max(...logits);
  const exponentials = logits.map((l) => Math.exp(l - top));
  const total = exponentials.reduce((a, b) => a + b, 0);
  const best = exponentials
    .map((e, index) => ({ index, weight: e / total }))
    .sort((a, b) => b.weight - a.weight || a.index - b.index)
    .slice(0, k);
  const sum = normalize ? best.reduce((a, b) => a + b.weight, 0) : 1;
  return { indices: best.map((b) => b.index), weights: best.map((b) => b.weight / sum) };
}
