import { describe, expect, it } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { generate, open, prompt } from './prefix-cache.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();

  it('prefixes are shared and copied there, beside recorded steps', async () => {
    const { model } = await open({ device: 'cuda' });
    const { model: alone } = await open({ prefixCache: false });
    await model.compile({ mode: 'reduce-overhead' });
    const base = prompt(66, 9);
    for (const common of [66, 65]) {
      const ids = [...base.slice(0, common), ...prompt(34, common)];
      const [a, b] = [await generate(model, ids), await generate(alone, ids)];
      expect(a.tokens).toEqual(b.tokens);
      expect(a.cached).toBe(common === 66 ? 0 : common);
    }
    expect(model.executionStats.graphs?.replays).toBeGreaterThan(0);
  });
});
