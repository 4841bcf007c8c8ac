/** Rows whose keys and values lie in a pool of blocks, and sessions with CachedAttention over it. */
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Device } from '../../src/runtime/device.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { Session } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { encodeModel, type ModelNode, type ModelValue } from './onnx-model.ts';
import { attend, normRotate } from './reference.ts';
import { pattern, temporaryFolder, writeTensors } from './stored-tensors.ts';

export type CacheType = 'float32' | 'float16' | 'bfloat16';

export interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Pairs of values of a head that are rotated; default: half a head. */
  pairs?: number;
  window?: number;
  precision?: number;
  /** Weights of the norms over each head. */
  norms?: { q: Float32Array; k: Float32Array };
  /** Type of the cache that the op sees; tests hold float32. */
  cache?: CacheType;
}

export const SCALE = 1.5;
const EPSILON = 1e-3;
const ONNX_TYPES = { float32: 1, float16: 10, bfloat16: 16 };

export const value = (name: string, type: ModelValue['type'], rank: number): ModelValue => ({
  name,
  type,
  shape: Array.from({ length: rank }, (_, d) => `${name}_${d}`),
});
export const values = (names: string[], type: ModelValue['type'], rank: number) =>
  names.map((name) => value(name, type, rank));

const INPUTS = [
  ...values(['q', 'k', 'v', 'cos', 'sin'], 'float32', 2),
  ...values(['past_key', 'past_value'], 'float32', 4),
  ...values(['row_starts', 'past_lengths'], 'int32', 1),
  value('block_tables', 'int32', 2),
];
export const OUTPUTS = [
  value('attended', 'float32', 2),
  ...values(['present_key', 'present_value'], 'float32', 4),
];
export const names = (of: ModelValue[]) => of.map(({ name }) => name);

const cast = (from: string, to: string, type: CacheType): ModelNode => ({
  op: 'Cast',
  domain: '',
  inputs: [from],
  outputs: [to],
  attributes: { to: ONNX_TYPES[type] },
});

/** The op, between casts where its cache is of another type than float32. */
function nodes({ heads, kvHeads, window, precision, norms, cache = 'float32' }: Heads): ModelNode[] {
  const node: ModelNode = {
    op: 'CachedAttention',
    name: 'node',
    inputs: names(INPUTS),
    outputs: names(OUTPUTS),
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: { float: SCALE },
      ...(window !== undefined && { window }),
      ...(precision !== undefined && { precision }),
      ...(norms && { q_norm: 0, k_norm: 1, epsilon: { float: EPSILON } }),
    },
  };
  if (cache === 'float32') return [node];
  const narrow = (name: string) => (/^(past|present)_(key|value)$/.test(name) ? `${name}_${cache}` : name);
  const casts = ['key', 'value'].flatMap((part) => [
    cast(`past_${part}`, narrow(`past_${part}`), cache),
    cast(narrow(`present_${part}`), `present_${part}`, 'float32'),
  ]);
  const inside = { ...node, inputs: node.inputs.map(narrow), outputs: node.outputs.map(narrow) };
  return [...casts.filter((_, i) => i % 2 === 0), inside, ...casts.filter((_, i) => i % 2 === 1)];
}

/** Opens graphs for the op's tests; what was opened ends with {@link Graphs.close}. */
export class Graphs {
  readonly #temporary = temporaryFolder();
  readonly #closing: (() => unknown)[] = [];
  #files = 0;

  /** @param device opens the session on this device, with weights of this type there */
  async open(heads: Heads, device?: { device: Device; dtype: CacheType }): Promise<Session> {
    const tensors = heads.norms ? [heads.norms.q, heads.norms.k] : [pattern(1)];
    return this.openGraph(INPUTS, OUTPUTS, nodes(heads), tensors, device);
  }

  async openGraph(
    inputs: ModelValue[],
    outputs: ModelValue[],
    graph: ModelNode[],
    tensors = [pattern(1)],
    on?: { device: Device; dtype: CacheType },
  ): Promise<Session> {
    const file = join(this.#temporary.folder, `${this.#files++}.bin`);
    const store = openWeightStore(
      writeTensors(
        file,
        tensors.map((data, i) => ({ name: `weight.${i}`, shape: [data.length], values: data })),
      ),
    );
    this.#closing.push(() => store.dispose());
    const weights = on?.device.openWeights(store, on.dtype);
    if (weights) this.#closing.push(() => weights.dispose());
    const model = encodeModel({ inputs, outputs, nodes: graph });
    const session = await openSession(model, { store, threads: 2, ...(weights && { weights }) });
    this.#closing.push(() => session.dispose());
    await weights?.upload(() => {});
    return session;
  }

  /** Ends all sessions so far. */
  async closeSessions(): Promise<void> {
    for (const close of this.#closing.splice(0).reverse()) await close();
  }
  close(): void {
    this.#temporary.remove();
  }
}

/** Some of the tokens of a row; all rows' tokens are the same from run to run. */
export interface Part {
  row: number;
  tokens: number;
}

/** A row's tokens as projected, and their angles. */
export class Tokens {
  readonly heads: Heads;
  readonly count: number;
  readonly past: number;
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly cos: Float32Array;
  readonly sin: Float32Array;

  constructor(heads: Heads, { row, tokens }: Part, past: number) {
    const { headDim, pairs = headDim / 2 } = heads;
    const take = (width: number, seed: number) =>
      Float32Array.from({ length: tokens }, (_, t) => past + t).reduce<Float32Array>(
        (all, position, t) => {
          all.set(pattern(width, 7919 * row + 31 * position + seed), t * width);
          return all;
        },
        new Float32Array(tokens * width),
      );
    this.heads = heads;
    this.count = tokens;
    this.past = past;
    this.q = take(heads.heads * headDim, 1);
    this.k = take(heads.kvHeads * headDim, 2);
    this.v = take(heads.kvHeads * headDim, 3);
    const angles = take(Math.floor(pairs), 4);
    this.cos = angles.map(Math.cos);
    this.sin = angles.map(Math.sin);
  }

  #ready(x: Float32Array, heads: number, norm: Float32Array | undefined): Float32Array {
    const rotation = { headDim: this.heads.headDim, cos: this.cos, sin: this.sin };
    return normRotate(x, heads, rotation, norm, EPSILON);
  }
  /** Queries and keys as they meet. */
  get queries(): Float32Array {
    return this.#ready(this.q, this.heads.heads, this.heads.norms?.q);
  }
  get keys(): Float32Array {
    return this.#ready(this.k, this.heads.kvHeads, this.heads.norms?.k);
  }
}

const join2 = (parts: Float32Array[]) => Float32Array.from(parts.flatMap((part) => [...part]));
export const matrix = (rows: number, data: Float32Array) =>
  new Tensor('float32', data, [rows, rows === 0 ? 0 : data.length / rows]);

/** Rows' caches in one pool of blocks, over one session. */
export class Pool {
  readonly key: Tensor;
  readonly value: Tensor;
  /** Blocks of each row. */
  readonly tables: number[][];
  readonly lengths: number[];
  readonly heads: Heads;
  readonly blockSize: number;
  readonly session: Session;

  /** @param tables blocks of each row; the pool has room for the highest */
  constructor(session: Session, heads: Heads, blockSize: number, tables: number[][]) {
    this.session = session;
    this.heads = heads;
    this.blockSize = blockSize;
    this.tables = tables;
    this.lengths = tables.map(() => 0);
    const shape = [Math.max(...tables.flat()) + 1, heads.kvHeads, blockSize, heads.headDim];
    const size = shape.reduce((a, b) => a * b, 1);
    // What no row has written must not matter.
    this.key = new Tensor('float32', new Float32Array(size).fill(99), shape);
    this.value = new Tensor('float32', new Float32Array(size).fill(-99), shape);
  }

  tokens(parts: Part[]): Tokens[] {
    return parts.map((part) => new Tokens(this.heads, part, this.lengths[part.row] as number));
  }

  feeds(parts: Part[]): Record<string, Tensor> {
    const tokens = this.tokens(parts);
    const count = parts.reduce((sum, part) => sum + part.tokens, 0);
    const rows = (pick: (of: Tokens) => Float32Array) => matrix(count, join2(tokens.map(pick)));
    const ends = [0];
    for (const part of parts) ends.push((ends.at(-1) as number) + part.tokens);
    const widest = Math.max(...parts.map((part) => (this.tables[part.row] as number[]).length));
    const table = parts.flatMap(({ row }) => {
      const blocks = this.tables[row] as number[];
      return [...blocks, ...new Array<number>(widest - blocks.length).fill(-1)];
    });
    return {
      q: rows((of) => of.q),
      k: rows((of) => of.k),
      v: rows((of) => of.v),
      cos: rows((of) => of.cos),
      sin: rows((of) => of.sin),
      past_key: this.key,
      past_value: this.value,
      row_starts: new Tensor('int32', Int32Array.from(ends), [ends.length]),
      past_lengths: new Tensor(
        'int32',
        Int32Array.from(parts, ({ row }) => this.lengths[row] as number),
        [parts.length],
      ),
      block_tables: new Tensor('int32', Int32Array.from(table), [parts.length, widest]),
    };
  }

  /** Runs a pass in the pool's own memory; the attended values of each part. */
  async run(parts: Part[], feeds = this.feeds(parts)): Promise<number[][]> {
    const fetches = { attended: null, present_key: this.key, present_value: this.value };
    const all = elements((await this.session.run(feeds, fetches)).attended);
    const width = this.heads.heads * this.heads.headDim;
    let end = 0;
    return parts.map(({ row, tokens }) => {
      (this.lengths[row] as number) += tokens;
      end += tokens * width;
      return all.slice(end - tokens * width, end);
    });
  }

  /** First index of a position of a row and head. */
  at(row: number, position: number, head: number): number {
    const block = this.tables[row]?.[Math.floor(position / this.blockSize)] as number;
    const place = (block * this.heads.kvHeads + head) * this.blockSize + (position % this.blockSize);
    return place * this.heads.headDim;
  }

  /** What a row's cache holds, [kvHeads, positions, headDim]. */
  row(row: number, tensor: Tensor): number[] {
    const { kvHeads, headDim } = this.heads;
    const data = tensor.data as Float32Array;
    return Array.from({ length: kvHeads }, (_, head) =>
      Array.from({ length: this.lengths[row] as number }, (_, position) => {
        const from = this.at(row, position, head);
        return [...data.subarray(from, from + headDim)];
      }),
    ).flat(2);
  }

  /** What the tokens, which have just been run, attend to in double precision. */
  expected(row: number, tokens: Tokens): number[] {
    return attend(
      {
        ...this.heads,
        rows: [{ keys: tokens.past + tokens.count, past: tokens.past }],
        tokens: tokens.count,
        scale: SCALE,
        causal: true,
      },
      tokens.queries,
      this.key.data as Float32Array,
      this.value.data as Float32Array,
      (_, position, head) => this.at(row, position, head),
    );
  }
}

export function elements(tensor: Tensor | undefined): number[] {
  if (tensor === undefined) throw new Error('the run returned no such tensor');
  return [...(tensor.data as Float32Array)];
}

/** The largest difference; both are as long and finite. */
export function worst(actual: readonly number[], expected: readonly number[]): number {
  expect(actual.length).toBe(expected.length);
  expect(actual.every(Number.isFinite)).toBe(true);
  return expected.reduce((most, e, i) => Math.max(most, Math.abs(e - (actual[i] as number))), 0);
}

/** The same number of new tokens, or different ones, for rows 0, 1, … */
export const parts = (...tokens: number[]): Part[] => tokens.map((count, row) => ({ row, tokens: count }));

/** Tables of rows that need so many positions, in an order that no rule explains. */
export function shuffled(blockSize: number, positions: number[]): number[][] {
  const counts = positions.map((count) => Math.ceil(count / blockSize));
  const total = counts.reduce((a, b) => a + b, 0);
  const order = Array.from({ length: total }, (_, i) => ({ block: i, key: Math.sin(i * 12.9898) % 1 }))
    .sort((a, b) => a.key - b.key)
    .map(({ block }) => block);
  return counts.map((count) => order.splice(0, count));
}

export const totals = (steps: Part[][]): number[] => {
  const lengths: number[] = [];
  for (const { row, tokens } of steps.flat()) lengths[row] = (lengths[row] ?? 0) + tokens;
  return lengths;
};
