import { describe, expect, test, vi } from 'vitest';
import { AutoModelForCausalLM, EngineError, InputError } from '../../src/index.ts';
import { checkDevice } from '../../src/runtime/choose-device.ts';
import {
  type Description,
  DRIVER,
  ENGINE,
  LIBRARIES,
  machine,
  PROVIDER,
  SMI,
} from './requirements/machines.ts';

const refusal = async (device: string, description: Description) => {
  const error = await checkDevice(device, machine(description), ENGINE).catch((fault: unknown) => fault);
  expect(error).toBeInstanceOf(EngineError);
  return (error as EngineError).message;
};

describe('checkDevice', () => {
  test.each([undefined, 'cpu', 'auto'])('%s is the CPU', async (device) => {
    await expect(checkDevice(device)).resolves.toBeUndefined();
  });

  test.each(['gpu', 'cuda:', 'cuda:x', 'cuda:-1', 'CUDA', '', 7, null])('%j is no device', async (device) => {
    const check = checkDevice(device);
    await expect(check).rejects.toThrow(InputError);
    await expect(check).rejects.toThrow(/expected one of cpu, auto, cuda, cuda:N/);
  });

  test('refuses CUDA with everything that is missing for it, and where it looked', async () => {
    const message = await refusal('cuda', {});
    expect(message).toMatch(/^device is "cuda", but this machine lacks something for it/);
    expect(message).toContain('→ npx moe-switchyard build --cuda');
    expect(message).toContain("ONNX Runtime's CUDA provider: no libonnxruntime_providers_shared.so");
    expect(message).toContain('→ ONNXRUNTIME_NODE_INSTALL=cuda12 node /app/ort/script/install.js');
    expect(message).toContain('an NVIDIA driver: no libcuda.so.1');
    expect(message).toMatch(/looked for in LD_LIBRARY_PATH \(not set\), .*\/usr\/lib\.$/);
  });

  test('has nothing to look for where CUDA does not exist', async () => {
    expect(await refusal('cuda', { platform: 'darwin' })).toMatch(
      /:\n- CUDA on darwin\n {2}→ use a Linux machine with an NVIDIA GPU$/,
    );
  });

  test('looks once at a machine that lacks nothing, and again at one that did', async () => {
    const described = machine({ files: { ...PROVIDER, ...LIBRARIES, ...DRIVER }, programs: SMI });
    const ask = vi.spyOn(described, 'ask');
    await checkDevice('cuda', described, ENGINE);
    const asked = ask.mock.calls.length;
    expect(asked).toBeGreaterThan(0);
    await checkDevice('cuda:1', described, ENGINE);
    expect(ask).toHaveBeenCalledTimes(asked);
    await expect(checkDevice('cuda:2', described, ENGINE)).rejects.toThrow('GPU 2: nvidia-smi lists 2');
    const poor = machine({});
    const find = vi.spyOn(poor, 'exists');
    for (const looks of [1, 2]) {
      find.mockClear();
      await expect(checkDevice('cuda', poor, ENGINE)).rejects.toThrow(/lacks something/);
      expect(find.mock.calls.length, `look ${looks}`).toBeGreaterThan(0);
    }
  });

  test('accepts CUDA where nothing is missing, and counts the GPUs', async () => {
    const ready = { files: { ...PROVIDER, ...LIBRARIES, ...DRIVER }, programs: SMI };
    await expect(checkDevice('cuda:1', machine(ready), ENGINE)).resolves.toBeUndefined();
    expect(await refusal('cuda:2', ready)).toContain('- GPU 2: nvidia-smi lists 2');
  });
});

test('CUDA is refused before anything is looked for', async () => {
  const load = AutoModelForCausalLM.fromPretrained('/no/such/folder', { device: 'cuda' });
  await expect(load).rejects.toThrow(/this machine lacks something for it/);
});
