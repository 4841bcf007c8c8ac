import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/auto/load-config.ts';
import { bytesPerDecodedToken, weightWork } from '../../src/bench/work.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { AutoModelForCausalLM } from '../../src/index.ts';
import { Device, listDevices } from '../../src/runtime/device.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel } from '../helpers/goldens.ts';

const { measureSession } = await import(join(import.meta.dirname, '../../scripts/gpu-report/session.mjs'));

describe.skipIf(process.platform !== 'linux')('a session on an emulated GPU', () => {
  useEmulatedGpu();
  const bytesPerToken = async (source: string) => {
    const repo = await resolveRepo(source, {});
    const { model } = await loadConfig(repo);
    const { tensors } = await openCheckpoint(repo);
    return bytesPerDecodedToken(weightWork(tensors.values(), model.work));
  };
  const library = { AutoModelForCausalLM, Device, listDevices, bytesPerToken };
  const settings = {
    device: 'cuda',
    dtype: 'float32',
    prompts: [20],
    newTokens: 2,
    rounds: 1,
    steps: 6,
    switches: 2,
  };
  const measured = async (job: object) => {
    const parts: Record<string, Record<string, unknown>> = {};
    await measureSession(library, { ...settings, ...job }, ({ part: name, ...rest }: { part: string }) => {
      parts[name] = rest;
    });
    return parts;
  };

  test('measures every part', async () => {
    const parts = await measured({ model: goldenModel('qwen3_moe_d') });
    const seconds = expect.any(Number);
    expect(parts).toEqual({
      card: { name: 'Emulated GPU', computeCapability: '8.0', memoryBytes: seconds, copyRate: seconds },
      load: { seconds, bytes: seconds, rate: seconds, bytesPerToken: seconds },
      prefill: {
        seconds: { grouped_mm: { 20: seconds }, batched_mm: { 20: seconds }, eager: { 20: seconds } },
      },
      decode: { seconds: { grouped_mm: seconds, batched_mm: seconds, eager: seconds } },
      recorded: { seconds: { grouped_mm: seconds, batched_mm: seconds }, captures: 2 },
      switch: { extra: { plain: seconds, recorded: seconds } },
      memory: { steps: 6, before: seconds, after: seconds },
    });
    expect(parts.memory?.after).toBe(parts.memory?.before);
    expect((await listDevices()).map(({ totalBytes, freeBytes }) => totalBytes - freeBytes)).toEqual([0]);
  });

  test('says what cannot be loaded, and stops there', async () => {
    const parts = await measured({ model: '/no/such/folder' });
    expect(Object.keys(parts)).toEqual(['card', 'load']);
    expect(parts.load?.error).toMatch(/no such folder|does not exist|\/no\/such\/folder/);
  });
});
