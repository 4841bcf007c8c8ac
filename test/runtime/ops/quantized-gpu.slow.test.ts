/** The experts of an emulated GPU over quantized weights: as codes where they can be, else expanded. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../../src/runtime/device.ts';
import { Tensor } from '../../../src/runtime/ort.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import { useEmulatedGpu } from '../../helpers/emulated-gpu.ts';
import { pattern, temporaryFolder, writeTensors } from '../stored-tensors.ts';
import { int8 } from './int8-weight.ts';
import { both, experts, LAYOUTS, runExperts, stores } from './quantized-experts.ts';
import { elements, expectClose, float, matrix, runOp, store, stored } from './run-op.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('quantized experts on an emulated GPU', () => {
  useEmulatedGpu();
  let device: Device;
  beforeAll(async () => {
    device = await Device.open();
  });
  afterAll(() => device?.dispose());
  const sizes = { experts: 3, hidden: 16, intermediate: 24 };

  it.each(
    LAYOUTS.flatMap((layout) => [4, 8].flatMap((block) => [0, 1, 2].map((i) => [layout, block, i] as const))),
  )('layout %s, blocks of %i, implementation %i', async (layout, block, implementation) => {
    const [coded, plain] = both(experts(layout, sizes, block)) as [never, never];
    const there = await runExperts(coded, layout, sizes, implementation, { device, dtype: 'float32' });
    expectClose(there, elements(await runExperts(plain, layout, sizes, implementation)));
  });

  it('refuses experts that are transposed and plain beside quantized ones', async () => {
    const plain = writeTensors(`${folder}/down.bin`, [
      { name: 'down', shape: [3, 24, 16], values: pattern(3 * 24 * 16, 5) },
    ]);
    const weights = openWeightStore(plain, [int8('gate', [3, 16, 48])]);
    stores.push(weights);
    await expect(
      runExperts(weights, 'fused_transposed', sizes, 1, { device, dtype: 'float32' }),
    ).rejects.toThrow(/experts 'down' are stored transposed and plain, 'gate' otherwise; .*use device cpu/);
  });

  it('leaves an expert that all tokens go to to an op of its own', async () => {
    const weights = store([stored('square', matrix(8, 8, 1))]);
    const square = weights.handle('square');
    const run = runOp({
      op: 'MoeExperts',
      weights,
      attributes: {
        ...{ layout: 'separate', num_experts: 1, hidden: 8, intermediate: 8 },
        ...{ gate: [square], up: [square], down: [square] },
        ...{ shared_gate: square, shared_up: square, shared_down: square },
      },
      inputs: {
        x: new Tensor('float32', pattern(8, 2), [1, 8]),
        indices: new Tensor('int32', Int32Array.of(0), [1, 1]),
        scores: new Tensor('float32', Float32Array.of(1), [1, 1]),
        implementation: new Tensor('int32', Int32Array.of(2), []),
      },
      outputs: [float('y', 2)],
      on: { device, dtype: 'float32' },
    });
    await expect(run).rejects.toThrow(
      /'shared_gate' is for the CPU; here, op GatedMlp computes such an expert/,
    );
  });
});
