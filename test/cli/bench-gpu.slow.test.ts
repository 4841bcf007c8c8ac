import { describe, expect, test } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const QUICK = ['bench', '--prompt', '5,20', '--new', '3', '--runs', '1', '--threads', '2'];

describe.skipIf(process.platform !== 'linux')('switchyard bench on an emulated GPU', () => {
  useEmulatedGpu();
  /** The upload of weights is told on stderr. */
  const onGpu = async (...args: string[]) => {
    const { exitCode, stdout } = await run([...QUICK, ...small, ...args, '--json']);
    expect(exitCode).toBe(0);
    return JSON.parse(stdout);
  };
  const small = ['--device', 'cuda', '--model', goldenModel('qwen3_moe_d'), '--dtype', 'float32'];

  test('reports the device, its copy rate, and how fast weights came there', async () => {
    const report = await onGpu();
    expect(report).toMatchObject({ device: 'Emulated GPU', decodeBackend: 'batched_mm' });
    expect(report.machine.gpu).toMatchObject({ name: 'Emulated GPU', memoryBytes: expect.any(Number) });
    expect(report.machine).not.toHaveProperty('gigaflopsPerSecond');
    expect(report.machine.readGigabytesPerSecond).toBeGreaterThan(0);
    expect(report.loadGigabytesPerSecond.median).toBeGreaterThan(0);
    for (const { decode: measured, memory } of report.backends) {
      const [decode] = measured;
      expect(decode.shareOfReadRate).toBeCloseTo(
        (report.bytesPerDecodedToken * decode.tokensPerSecond.median) /
          (report.machine.readGigabytesPerSecond * 1e9),
        9,
      );
      // Weights and nothing like the gauge's copies.
      expect(memory.gpu).toBeGreaterThan(100_000);
      expect(memory.gpu).toBeLessThan(50e6);
    }
  });

  test('refuses a device that is not there', async () => {
    const { exitCode, stderr } = await run([...QUICK, '--device', 'cuda:7']);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/no GPU 7: found Emulated GPU/);
  });

  test('keeps decoding on grouped_mm, and bounds the memory of weights, where asked to', async () => {
    const report = await onGpu('--no-decode-with-batched-mm', '--experts', 'grouped_mm');
    expect(report).not.toHaveProperty('decodeBackend');
    const { exitCode, stderr } = await run([...QUICK, ...small, '--max-memory', '1KB']);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/maxMemory .* at least/);
  });
});
