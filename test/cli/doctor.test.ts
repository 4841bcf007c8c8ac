import { afterEach, describe, expect, test, vi } from 'vitest';
import { run } from './capture.ts';

afterEach(() => vi.unstubAllEnvs());

describe('switchyard doctor', () => {
  // First, because an engine once open stays open.
  test('reports an engine that does not work, and exits with 1', async () => {
    vi.stubEnv('SWITCHYARD_ONNXRUNTIME', '/no/such/libonnxruntime.so');
    const { exitCode, stdout, stderr } = await run(['doctor']);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^ +engine +does not work\n +\/no\/such\/libonnxruntime\.so: missing \(named by/m);
    expect(stdout).toMatch(/^1\. for running: a working engine\n +→ .*there is no \/no\/such/m);
    expect(stderr).toBe('error: the engine does not work on this machine; the report says why\n');

    const json = await run(['doctor', '--json']);
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ok: false,
      engine: { library: { path: '/no/such/libonnxruntime.so', found: false, fromEnvironment: true } },
    });
  });

  test('reports what models run on here', async () => {
    const { exitCode, stdout, stderr } = await run(['doctor']);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(/^ +engine +ONNX Runtime 1\.\d+\.\d+\n +\S+libonnxruntime/m);
    expect(stdout).toMatch(/^models run here, on the CPU with the \w+ kernels and \d+ threads?$/m);
  });

  test('--json prints the same as one object', async () => {
    const { exitCode, stdout } = await run(['doctor', '--json']);
    expect(exitCode).toBe(0);
    expect(stdout.indexOf('\n')).toBe(stdout.length - 1);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ ok: true, device: 'cpu', node: { version: process.version } });
    expect(report.engine.working.cpu.features).toContain(report.engine.working.cpu.isa);
    expect(report.threads.threads).toBeGreaterThan(0);
  });

  test('--cuda lists what a GPU needs, whether there is one or not', async () => {
    const { exitCode, stdout } = await run(['doctor', '--cuda']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^what device cuda needs, for CUDA \d+\n +kernels/m);
  });

  test('takes no argument', async () => {
    expect((await run(['doctor', 'now'])).exitCode).toBe(2);
  });
});

test.each(['cuda', 'cuda:1'])(
  'generate --device %s is refused before a model is looked for',
  async (device) => {
    const args = ['generate', '--device', device, '--model', '/no/such/folder', '--input-ids', '1'];
    const { exitCode, stdout, stderr } = await run(args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(/^error: device is "cuda(:1)?", but this machine lacks something for it/);
  },
);
