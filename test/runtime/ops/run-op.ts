import { join } from 'node:path';
import { afterAll, afterEach, expect } from 'vitest';
import type { Device } from '../../../src/runtime/device.ts';
import type { Tensor } from '../../../src/runtime/ort.ts';
import { openSession } from '../../../src/runtime/session.ts';
import type { Session, WeightStore } from '../../../src/runtime/types.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import { type AttributeValue, encodeModel, type ModelValue } from '../onnx-model.ts';
import type { Matrix } from '../reference.ts';
import {
  pattern,
  type TestTensor,
  temporaryFolder,
  type WeightDType,
  writeTensors,
} from '../stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let files = 0;
export function store(tensors: TestTensor[]): WeightStore {
  const opened = openWeightStore(writeTensors(join(folder, `weights-${files++}.bin`), tensors));
  cleanups.push(() => opened.dispose());
  return opened;
}

interface OpCall {
  op: string;
  weights: WeightStore;
  attributes: Record<string, AttributeValue>;
  inputs: Record<string, Tensor>;
  outputs: ModelValue[];
  onExpertsCalls?: (calls: readonly number[]) => void;
  /** Where to compute instead of on the CPU, and in what. */
  on?: { device: Device; dtype: 'float32' | 'float16' | 'bfloat16' };
}

/** Builds a graph of one node and runs it. */
export async function runOp(call: OpCall): Promise<Record<string, Tensor>> {
  const { inputs, outputs, onExpertsCalls } = call;
  const session = await openOp(call);
  return session.run(inputs, Object.fromEntries(outputs.map((o) => [o.name, null])), { onExpertsCalls });
}

/** A session of one node, which is disposed of after the test. */
export async function openOp({ op, weights, attributes, inputs, outputs, on }: OpCall): Promise<Session> {
  const names = Object.keys(inputs);
  const model = encodeModel({
    inputs: names.map((name) => {
      const tensor = inputs[name] as Tensor;
      return {
        name,
        type: tensor.type as ModelValue['type'],
        shape: tensor.dims.map((_, d) => `${name}${d}`),
      };
    }),
    outputs,
    nodes: [
      {
        op,
        name: 'node',
        inputs: names,
        outputs: outputs.map((o) => o.name),
        attributes,
      },
    ],
  });
  const there = on?.device.openWeights(weights, on.dtype);
  if (there) cleanups.push(() => there.dispose());
  const session = await openSession(model, { store: weights, threads: 2, ...(there && { weights: there }) });
  cleanups.push(() => session.dispose());
  await there?.upload(() => {});
  return session;
}

export const float = (name: string, rank: number): ModelValue => ({
  name,
  type: 'float32',
  shape: Array.from({ length: rank }, (_, d) => `${name}_${d}`),
});

export function matrix(rows: number, cols: number, seed: number): Matrix {
  return { rows, cols, values: pattern(rows * cols, seed) };
}

export function stored(name: string, { rows, cols, values }: Matrix, dtype: WeightDType = 'F32'): TestTensor {
  return { name, shape: [rows, cols], values, dtype };
}

export function elements<T extends number | bigint = number>(tensor: Tensor | undefined): T[] {
  if (tensor === undefined) throw new Error('the run returned no such tensor');
  return [...(tensor.data as unknown as Iterable<T>)];
}

export function expectClose(actual: Tensor | undefined, expected: readonly number[]) {
  const values = elements(actual);
  expect(values.length).toBe(expected.length);
  const worst = Math.max(
    0,
    ...expected.map((e, i) => Math.abs(e - (values[i] as number)) / (1 + Math.abs(e))),
  );
  expect(worst).toBeLessThan(1e-5);
}
