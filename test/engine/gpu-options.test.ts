/** What is said of a GPU before there is one. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, EngineError } from '../../src/index.ts';
import { listDevices } from '../../src/runtime/device.ts';
import { root } from '../kernels/native-program.ts';

describe('the CUDA library', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'switchyard-cuda-'));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    delete process.env.SWITCHYARD_CUDA_LIBRARY;
  });

  it('is missed with its path and how to build it', async () => {
    process.env.SWITCHYARD_CUDA_LIBRARY = '/nowhere/lib.so';
    const listing = listDevices();
    await expect(listing).rejects.toThrow(EngineError);
    await expect(listing).rejects.toThrow(
      /no \/nowhere\/lib\.so; SWITCHYARD_CUDA_LIBRARY .*npx moe-switchyard build --cuda/,
    );
  });

  it.each([
    ['text.so', 'no library', /does not load: .*text\.so.*npx moe-switchyard build --cuda/],
    [join(root, 'kernels/build/switchyard.node'), undefined, /is not Switchyard's CUDA library/],
  ])('is refused where it is none: %s', async (name, content, message) => {
    const path = content === undefined ? name : join(folder, name);
    if (content !== undefined) writeFileSync(path, content);
    process.env.SWITCHYARD_CUDA_LIBRARY = path;
    await expect(listDevices()).rejects.toThrow(message as RegExp);
  });
});

it.each(['20 apples', '', '-1GB', 0, Number.NaN, '1e3'])('maxMemory %j is refused', async (maxMemory) => {
  const load = AutoModelForCausalLM.fromPretrained('/no/such/folder', { maxMemory });
  await expect(load).rejects.toThrow(/^maxMemory is /);
});
