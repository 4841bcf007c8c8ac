/** The experts of an emulated GPU over quantized weights: as codes where they can be, else expanded. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../../src/runtime/device.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import { useEmulatedGpu } from '../../helpers/emulated-gpu.ts';
import { pattern, temporaryFolder, writeTensors } from '../stored-tensors.ts';
import { int8 } from './int8-weight.ts';
import { both, experts, LAYOUTS, runExperts, stores } from './quantized-experts.ts';
import { elements, expectClose } from './run-op.ts';

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
});
