import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { LoadOptions } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { copy, expected, expectNamed, generating, load, SHARD } from './changed-weights.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();

  it('a model that is there as a whole needs its file no more', async () => {
    const path = copy();
    const model = await load(path, { device: 'cuda' });
    truncateSync(join(path, SHARD), 0);
    expect(await generating(model)).toEqual(expected);
    await model.dispose();
  });

  it('a model whose experts come and go needs it', async () => {
    const path = copy();
    const refusal: Error = await load(path, { device: 'cuda', maxMemory: 1000 }).catch((error) => error);
    const maxMemory = Number(refusal.message.match(/at least .* \((\d+) bytes\)/)?.[1]);
    const model = await load(path, { device: 'cuda', maxMemory });
    expect(await generating(model)).toEqual(expected);
    truncateSync(join(path, SHARD), 0);
    await expectNamed(generating(model), path);
    await model.dispose();
  });

  it('an upload in the middle of which the file is cut short fails', async () => {
    const path = copy();
    const onProgress: LoadOptions['onProgress'] = ({ stage }) => {
      if (stage === 'load') truncateSync(join(path, SHARD), 0);
    };
    await expectNamed(load(path, { device: 'cuda', onProgress }), path);
  });
});
