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

export interface AttentionShape {
  /** Per row of the batch: keys there are, and position among them of the first query. */
  rows: readonly { keys: number; past: number }[];
  /** Queries in a row. */
  tokens: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  scale: number;
  causal?: boolean;
  /** Newest keys a causal query sees. */
  window?: number;
}

/**
 * Softmax attention in double precision. `q` is [batch, tokens, heads · headDim]; `key` and `value` give the first index of
 * a key of a row and head.
 */
export function attend(
  shape: AttentionShape,
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  at: (row: number, key: number, kvHead: number) => number,
): number[] {
  const { heads, headDim } = shape;
  return mapRows(q, headDim, (query, i) => {
    const head = i % heads;
    const token = Math.floor(i / heads) % shape.tokens;
    const row = Math.floor(i / heads / shape.tokens);
    const { keys, past } = shape.rows[row] as { keys: number; past: number };
    const end = shape.causal ? Math.min(keys, past + token + 1) : keys;
    const begin = Math.max(0, past + token + 1 - (shape.window ?? Number.POSITIVE_INFINITY));
    const seen = Array.from({ length: end - begin }, (_, j) =>
      at(row, begin + j, Math.floor((head * shape.kvHeads) / heads)),
    );
    const scores = seen.map((first) =>
      query.reduce((sum, value, d) => sum + value * (k[first + d] as number) * shape.scale, 0),
    );
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = weights.reduce((a, b) => a + b, 0);
    return Array.from(query, (_, d) =>
      seen.reduce((sum, first, j) => sum + ((weights[j] as number) * (v[first + d] as number)) / total, 0),
    );
  });
}

export interface Rotation {
  headDim: number;
  /** Of each token, [tokens, pairs]: what turns the first 2 · pairs values of a head. */
  cos: Float32Array;
  sin: Float32Array;
}

/**
 * Heads of `x` [tokens, heads · headDim], divided by their root mean square and times `norm` if there is one, with the halves
 * of their rotated values turned against each other.
 */
export function normRotate(
  x: Float32Array,
  heads: number,
  { headDim, cos, sin }: Rotation,
  norm: Float32Array | undefined,
  epsilon: number,
): Float32Array {
  const pairs = (cos.length * heads * headDim) / (x.length || 1);
  const rotated = mapRows(x, headDim, (head, i) => {
    const squares = head.reduce((sum, value) => sum + value * value, 0);
    const scale = norm ? 1 / Math.sqrt(squares / headDim + epsilon) : 1;
    const scaled = Array.from(head, (value, d) => value * scale * (norm?.[d] ?? 1));
    const angle = Math.floor(i / heads) * pairs;
    return scaled.map((value, d) => {
      if (d >= 2 * pairs) return value;
      const [c, s] = [cos[angle + (d % pairs)] as number, sin[angle + (d % pairs)] as number];
      const other = scaled[(d + pairs) % (2 * pairs)] as number;
      return value * c + (d < pairs ? -other : other) * s;
    });
  });
  return Float32Array.from(rotated);
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
