import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadBinding } from '../../../src/runtime/binding.ts';
import { Tensor } from '../../../src/runtime/ort.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import type { TensorInfo } from '../../../src/safetensors/types.ts';
import { pattern, temporaryFolder, writeTensors } from '../stored-tensors.ts';
import { int8 } from './int8-weight.ts';
import { both, experts, LAYOUTS, runExperts, stores } from './quantized-experts.ts';
import { elements, expectClose, float, runOp } from './run-op.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);
let files = 0;

const x = new Tensor('float32', pattern(3 * 10, 9), [3, 10]);

describe('ops over quantized weights', () => {
  it('Linear and Embedding', async () => {
    const stores = both([int8('w', [7, 10])]);
    const [coded, plain] = await Promise.all(
      stores.map(async (weights) => {
        const linear = await runOp({
          op: 'Linear',
          weights,
          attributes: { weights: [weights.handle('w')] },
          inputs: { x },
          outputs: [float('y', 2)],
        });
        const embedding = await runOp({
          op: 'Embedding',
          weights,
          attributes: { weight: weights.handle('w') },
          inputs: { ids: new Tensor('int64', BigInt64Array.of(6n, 0n, 3n), [3]) },
          outputs: [float('y', 2)],
        });
        return [linear.y, embedding.y];
      }),
    );
    expectClose(coded?.[0], elements(plain?.[0]));
    expect(elements(coded?.[1])).toEqual(elements(plain?.[1]));
  });

  it('Linear with activations rounded to int8 where the op allows it', async () => {
    const [columns, rows] = [96, 5];
    const weight = { ...int8('w', [rows, columns]) };
    const scale = writeTensors(join(folder, `${files++}.bin`), [
      { name: 'w.scale', shape: [1], values: Float32Array.of(1 / 64) },
    ])[0] as TensorInfo;
    const tensor = { ...weight, scales: { tensor: scale, type: 'float', group: [rows, columns] } } as const;
    const weights = openWeightStore([], [tensor]);
    stores.push(weights);
    const x = Float32Array.from(pattern(2 * columns, 3), (value, i) => value + i / 1000);
    const run = async (attributes: { int8_activations?: number }) =>
      elements(
        (
          await runOp({
            op: 'Linear',
            weights,
            attributes: { weights: [weights.handle('w')], ...attributes },
            inputs: { x: new Tensor('float32', x, [2, columns]) },
            outputs: [float('y', 2)],
          })
        ).y,
      );
    const [exact, same, rounded] = [
      await run({}),
      await run({ int8_activations: 0 }),
      await run({ int8_activations: 1 }),
    ];
    expect(same).toEqual(exact);
    const distance = Math.hypot(...exact.map((value, i) => value - (rounded[i] as number)));
    expect(distance).toBeLessThan(0.01 * Math.hypot(...exact));
    // Rounded they were, on processors with kernels for it.
    if (/vnni|avx512_bf16|avx512_vbmi|amx|portable/.test(loadBinding().cpuInfo().isa))
      expect(rounded).not.toEqual(exact);
  });

  it('GatedMlp with a gate for its output', async () => {
    const weights = [int8('g', [6, 10]), int8('u', [6, 10]), int8('d', [10, 6]), int8('o', [1, 10])];
    const [coded, plain] = await Promise.all(
      both(weights).map((weights) =>
        runOp({
          op: 'GatedMlp',
          weights,
          attributes: {
            gate: weights.handle('g'),
            up: weights.handle('u'),
            down: weights.handle('d'),
            output_gate: weights.handle('o'),
          },
          inputs: { x },
          outputs: [float('y', 2)],
        }),
      ),
    );
    expectClose(coded?.y, elements(plain?.y));
  });

  const sizes = { experts: 3, hidden: 10, intermediate: 7 };

  it.each(LAYOUTS.flatMap((layout) => [0, 1, 2].map((i) => [layout, i] as const)))(
    'MoeExperts of layout %s, implementation %i',
    async (layout, implementation) => {
      const [coded, plain] = await Promise.all(
        both(experts(layout, sizes)).map((weights) => runExperts(weights, layout, sizes, implementation)),
      );
      expectClose(coded, elements(plain));
    },
  );

  it('refuses a bias that is quantized', async () => {
    const weights = openWeightStore([], [int8('w', [7, 10]), int8('b', [1, 7])]);
    stores.push(weights);
    const run = runOp({
      op: 'Linear',
      weights,
      attributes: { weights: [weights.handle('w')], biases: [weights.handle('b')] },
      inputs: { x },
      outputs: [float('y', 2)],
    });
    await expect(run).rejects.toThrow(/'biases\[0\]': tensor 'b' has shape \[1, 7\]; expected \[7\]/);
  });
});
