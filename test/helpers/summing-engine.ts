import { Engine } from '../../src/engine/engine.ts';
import type { CacheSpec } from '../../src/nn/cache-spec.ts';
import { Device } from '../../src/runtime/device.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { summingModel } from './summing-model.ts';

const NO_FILES = { files: [], tensors: new Map() };

/** An engine of a `summingModel`, on the CPU or on a device. */
export async function openSummingEngine(
  vocabSize: number,
  kinds: readonly CacheSpec['kind'][],
  where: 'cpu' | 'cuda',
  prefixBytes = 0,
): Promise<{ engine: Engine; close: () => Promise<void> }> {
  const store = openWeightStore([]);
  const device = where === 'cuda' ? await Device.open() : undefined;
  const weights = device?.openWeights(store, 'float32');
  const options = { dtype: 'float32', cacheDtype: 'float32', threads: 1, weights, prefixBytes } as const;
  const engine = new Engine(summingModel(vocabSize, kinds), NO_FILES, store, options);
  const close = async () => {
    await engine.dispose();
    await weights?.dispose();
    await device?.dispose();
    store.dispose();
  };
  return { engine, close };
}
