import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SafetensorsDType } from '../../src/dtype.ts';
import type { ExpertsContext, ExpertsWeights } from '../../src/experts/interface.ts';
import { IMPLEMENTATIONS } from '../../src/experts/moe-op.ts';
import { ExpertsInterface } from '../../src/experts/registry.ts';
import { Graph } from '../../src/graph/graph.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { Session, WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { CheckpointWeights } from '../../src/weights/checkpoint-weights.ts';
import { maxDifference } from '../helpers/goldens.ts';
import { Random } from '../helpers/random.ts';

/** Accepted difference to double precision at dtype float32; outputs are of the order of one. */
const TOLERANCE = 1e-4;

const LAYOUTS = ['separate', 'fused', 'fused_transposed'] as const;
const DTYPES = ['F32', 'BF16', 'F16'] as const;

/** Weights of one layer, as double-precision copies of what was stored. */
interface Expert {
  gate: Float64Array;
  up: Float64Array;
  down: Float64Array;
}

interface Routing {
  tokens: number;
  indices: number[][];
}

/**
 * The conformance suite of experts backends: whatever is registered under `name` must compute
 * Σₖ weightₖ · downₑ(silu(gateₑ x) · upₑ x) for every routing, on-disk layout and stored dtype.
 */
export function describeExpertsBackend(name: string): void {
  describe(`experts backend ${name}`, () => {
    describe.each(LAYOUTS)('over %s weights', (layout) => {
      describe.each(DTYPES)('stored as %s', (weightDtype) => {
        // Sizes are odd on purpose: nothing may rely on multiples of a vector width.
        const context: ExpertsContext = {
          device: 'cpu',
          dtype: 'float32',
          weightDtype,
          layout,
          numExperts: 5,
          topK: 2,
          hiddenSize: 22,
          intermediateSize: 13,
        };
        const bench = new Bench(name, context);
        beforeAll(() => bench.open());
        afterAll(() => bench.close());

        it('serves one token', () => bench.check({ tokens: 1, indices: [[3, 0]] }));
        it('serves zero tokens', () => bench.check({ tokens: 0, indices: [] }));
        it('leaves experts idle', () => bench.check(routing(7, (t) => [t % 2, 4])));
        it('sends all tokens to the same experts', () => bench.check(routing(19, () => [2, 1])));
        it('spreads tokens over all experts', () =>
          bench.check(routing(33, (t) => [t % 5, (t + 1 + (t % 3)) % 5])));
        it('gives the same result for the same input', () =>
          bench.checkRepeatable(routing(9, (t) => [t % 5, (t + 2) % 5])));
      });
    });

    describe('with k = all experts', () => {
      const context: ExpertsContext = {
        device: 'cpu',
        dtype: 'float32',
        weightDtype: 'BF16',
        layout: 'separate',
        numExperts: 4,
        topK: 4,
        hiddenSize: 16,
        intermediateSize: 10,
      };
      const bench = new Bench(name, context);
      beforeAll(() => bench.open());
      afterAll(() => bench.close());
      it('sums over every expert', () =>
        bench.check(routing(6, (t) => [t % 4, (t + 1) % 4, (t + 2) % 4, (t + 3) % 4])));
    });
  });
}

function routing(tokens: number, choose: (token: number) => number[]): Routing {
  return { tokens, indices: Array.from({ length: tokens }, (_, t) => choose(t)) };
}

/** One MoE layer in a session of its own, and the same layer in double precision. */
class Bench {
  readonly #name: string;
  readonly #context: ExpertsContext;
  readonly #random = new Random(20261);
  #folder = '';
  #experts: Expert[] = [];
  #store: WeightStore | undefined;
  #session: Session | undefined;

  constructor(name: string, context: ExpertsContext) {
    this.#name = name;
    this.#context = context;
  }

  async open(): Promise<void> {
    this.#folder = mkdtempSync(join(tmpdir(), 'switchyard-experts-'));
    const { tensors, weights } = this.#writeWeights();
    this.#store = openWeightStore(tensors.values());
    const graph = new Graph(new CheckpointWeights({ files: [], tensors }, this.#store));
    const { hiddenSize, topK } = this.#context;
    const output = ExpertsInterface.get(this.#name).emit(graph, {
      hiddenStates: graph.input('x', 'float32', ['tokens', hiddenSize]),
      topKIndices: graph.input('indices', 'int32', ['tokens', topK]),
      topKWeights: graph.input('weights', 'float32', ['tokens', topK]),
      implementation: graph.input('implementation', 'int32', []),
      weights,
      context: this.#context,
    });
    graph.output(output, 'y', 'float32', ['tokens', hiddenSize]);
    const { model, boundInputs } = graph.serialize();
    this.#session = await openSession(model, {
      store: this.#store,
      threads: 2,
      boundInputs,
    });
  }

  async close(): Promise<void> {
    await this.#session?.dispose();
    this.#store?.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async check(routing: Routing): Promise<void> {
    const { x, weights } = this.#inputs(routing);
    const { y, calls } = await this.#run(routing, x, weights);
    expect(y.length).toBe(x.length);
    expect(maxDifference(y, this.#reference(routing, x, weights))).toBeLessThan(TOLERANCE);
    const own = (IMPLEMENTATIONS as readonly string[]).indexOf(this.#name);
    expect(calls).toEqual(IMPLEMENTATIONS.map((_, i) => (i === own ? 1 : 0)));
  }

  async checkRepeatable(routing: Routing): Promise<void> {
    const { x, weights } = this.#inputs(routing);
    const [first, second] = [await this.#run(routing, x, weights), await this.#run(routing, x, weights)];
    expect(second.y).toEqual(first.y);
  }

  #inputs({ tokens }: Routing) {
    const { hiddenSize, topK } = this.#context;
    return {
      x: this.#random.floats(tokens * hiddenSize, 1),
      weights: this.#random.floats(tokens * topK, 0.5),
    };
  }

  async #run({ tokens, indices }: Routing, x: Float32Array, weights: Float32Array) {
    const { hiddenSize, topK } = this.#context;
    const own = (IMPLEMENTATIONS as readonly string[]).indexOf(this.#name);
    const feeds: Record<string, Tensor> = {
      x: new Tensor('float32', x, [tokens, hiddenSize]),
      indices: new Tensor('int32', Int32Array.from(indices.flat()), [tokens, topK]),
      weights: new Tensor('float32', weights, [tokens, topK]),
      implementation: new Tensor('int32', Int32Array.of(Math.max(0, own)), []),
    };
    let calls: readonly number[] = [];
    const onExpertsCalls = (counted: readonly number[]) => {
      calls = counted;
    };
    const outputs = await (this.#session as Session).run(feeds, { y: null }, { onExpertsCalls });
    return { y: outputs.y?.data as Float32Array, calls };
  }

  #reference({ tokens, indices }: Routing, x: Float32Array, weights: Float32Array): Float64Array {
    const { hiddenSize: hidden, intermediateSize: intermediate, topK } = this.#context;
    const y = new Float64Array(tokens * hidden);
    for (let t = 0; t < tokens; t++) {
      const token = x.subarray(t * hidden, (t + 1) * hidden);
      for (const [j, index] of (indices[t] as number[]).entries()) {
        const { gate, up, down } = this.#experts[index] as Expert;
        const g = multiply(gate, token, intermediate);
        const u = multiply(up, token, intermediate);
        const out = multiply(
          down,
          g.map((v, i) => (v / (1 + Math.exp(-v))) * (u[i] as number)),
          hidden,
        );
        const weight = weights[t * topK + j] as number;
        for (let h = 0; h < hidden; h++)
          (y as Float64Array)[t * hidden + h] = (y[t * hidden + h] as number) + weight * (out[h] as number);
      }
    }
    return y;
  }

  /** Writes random experts in the context's layout, at an odd offset so that nothing is aligned. */
  #writeWeights(): { tensors: Map<string, TensorInfo>; weights: ExpertsWeights } {
    const {
      numExperts,
      hiddenSize: hidden,
      intermediateSize: intermediate,
      layout,
      weightDtype,
    } = this.#context;
    const stored = (rows: number, columns: number) => this.#random.stored(rows * columns, 0.4, weightDtype);
    this.#experts = Array.from({ length: numExperts }, () => ({
      gate: stored(intermediate, hidden),
      up: stored(intermediate, hidden),
      down: stored(hidden, intermediate),
    }));
    const file = join(this.#folder, 'weights.bin');
    const writer = new TensorWriter(file, weightDtype);
    const each = (part: keyof Expert, shape: number[]) =>
      this.#experts.map((expert, i) => writer.add(`experts.${i}.${part}`, shape, expert[part]));
    let weights: ExpertsWeights;
    if (layout === 'separate') {
      weights = {
        gate: each('gate', [intermediate, hidden]),
        up: each('up', [intermediate, hidden]),
        down: each('down', [hidden, intermediate]),
      };
    } else {
      const flip = layout === 'fused_transposed';
      const place = (matrix: Float64Array, rows: number) => (flip ? transpose(matrix, rows) : matrix);
      const gateUp = this.#experts.map((e) => place(Float64Array.of(...e.gate, ...e.up), 2 * intermediate));
      const down = this.#experts.map((e) => place(e.down, hidden));
      const shapes = flip
        ? [
            [numExperts, hidden, 2 * intermediate],
            [numExperts, intermediate, hidden],
          ]
        : [
            [numExperts, 2 * intermediate, hidden],
            [numExperts, hidden, intermediate],
          ];
      weights = {
        gate: [writer.add('gate_up', shapes[0] as number[], concat(gateUp))],
        up: [],
        down: [writer.add('down', shapes[1] as number[], concat(down))],
      };
    }
    writer.write();
    return { tensors: writer.tensors, weights };
  }
}

/** Lays tensors one after another in a file. */
class TensorWriter {
  readonly tensors = new Map<string, TensorInfo>();
  readonly #file: string;
  readonly #dtype: 'F32' | 'BF16' | 'F16';
  readonly #parts: Buffer[] = [Buffer.alloc(1)];
  #offset = 1;

  constructor(file: string, dtype: 'F32' | 'BF16' | 'F16') {
    this.#file = file;
    this.#dtype = dtype;
  }

  add(name: string, shape: number[], values: Float64Array): string {
    const bytes = Random.encode(values, this.#dtype);
    const dtype: SafetensorsDType = this.#dtype;
    this.tensors.set(name, {
      name,
      file: this.#file,
      offset: this.#offset,
      byteLength: bytes.length,
      dtype,
      shape,
    });
    this.#parts.push(bytes);
    this.#offset += bytes.length;
    return name;
  }

  write(): void {
    writeFileSync(this.#file, Buffer.concat(this.#parts));
  }
}

/** matrix [rows, x.length] · x */
function multiply(matrix: Float64Array, x: ArrayLike<number>, rows: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += (matrix[row * x.length + i] as number) * (x[i] as number);
    return sum;
  });
}

function transpose(matrix: Float64Array, rows: number): Float64Array {
  const columns = matrix.length / rows;
  return matrix.map((_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)] as number);
}

function concat(parts: readonly Float64Array[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => [...part]));
}
