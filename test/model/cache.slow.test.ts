/** Caches that callers hold, on the emulation of a GPU. */
import { describe } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { describeCache } from './cache.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();
  describe.each(['qwen3_moe_c', 'qwen3_next_g'])('a cache of %s', (name) =>
    describeCache(name, { device: 'cuda' }, 0.7),
  );
});
