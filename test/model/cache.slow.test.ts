/** Caches that callers hold, on the emulation of a GPU. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { describeCache, GREEDY, load, prompt, useFolder } from './cache.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();
  const folder = useFolder();
  describe.each(['qwen3_moe_c', 'qwen3_next_g'])('a cache of %s', (name) =>
    describeCache(name, { device: 'cuda' }, 0.7),
  );

  it('a cache is forked, saved and loaded, with its recurrent states', async () => {
    const model = await load('qwen3_next_g', { device: 'cuda' });
    const alone = await load('qwen3_next_g');
    const file = join(folder.path, 'device.safetensors');
    const options = { inputIds: [prompt(5, 1)], maxNewTokens: 2, ...GREEDY };
    using cache = model.createCache();
    await model.generate({ ...options, cache });
    using fork = cache.fork();
    await fork.save(file);
    using loaded = await model.loadCache(file);
    const next = { ...options, inputIds: [[...loaded.ids, 3, 4]] };
    const { sequences, stats } = await model.generate({ ...next, cache: loaded });
    expect(sequences).toEqual((await alone.generate(next)).sequences);
    expect(stats.cachedTokens).toBe(6);
    // Both keep float32, and a file does not say where it comes from.
    using onCpu = await alone.loadCache(file);
    expect((await alone.generate({ ...next, cache: onCpu })).sequences).toEqual(sequences);
    await Promise.all([model.dispose(), alone.dispose()]);
  });
});
