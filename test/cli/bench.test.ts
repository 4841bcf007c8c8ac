import { describe, expect, test, vi } from 'vitest';
import { Stop } from '../../src/cli/io.ts';
import { CausalLM } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const QUICK = ['bench', '--prompt', '5,20', '--new', '3', '--runs', '1', '--threads', '2'];

/** What is being measured, told now and then on a machine that takes long. */
const STATUS = /^(warming up|run \d+ of \d+: .*)\n/gm;

const json = async (...args: string[]) => {
  const { exitCode, stdout, stderr } = await run([...QUICK, ...args, '--json']);
  expect({ exitCode, stderr: stderr.replace(STATUS, '') }).toEqual({ exitCode: 0, stderr: '' });
  return JSON.parse(stdout);
};

describe('switchyard bench', () => {
  test('measures every backend of the demo model', async () => {
    const report = await json();
    expect(report).toMatchObject({ architecture: 'qwen3_moe', dtype: 'bfloat16', threads: 2, runs: 1 });
    expect(report.backends.map((b: { experts: string }) => b.experts)).toEqual([
      'grouped_mm',
      'batched_mm',
      'eager',
    ]);
    for (const { prefill, decode, memory } of report.backends) {
      expect(prefill.map((p: { tokens: number }) => p.tokens)).toEqual([5, 20]);
      expect(prefill[0].shareOfFlops).toBeGreaterThan(0);
      expect(decode.tokensPerSecond.median).toBeGreaterThan(0);
      expect(decode.shareOfReadRate).toBeGreaterThan(0);
      expect(memory.resident).toBeGreaterThan(1e6);
    }
    expect(report.load.median).toBeGreaterThan(0);
    expect(report.machine.readGigabytesPerSecond).toBeGreaterThan(0);
    expect(report.machine.gigaflopsPerSecond).toBeGreaterThan(0);
  });

  test('prints a table', async () => {
    const { exitCode, stdout } = await run([...QUICK, '--experts', 'eager,grouped_mm']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^ +eager +grouped_mm$/m);
    expect(stdout).toMatch(/^prefill 20, tokens\/s +\d\S* +\d\S*$/m);
    expect(stdout).toMatch(/^decode, tokens\/s +\d\S* +\d\S*$/m);
  });

  test('uses the backend it reports, and keeps the end token of the model out', async () => {
    const { openDecoding } = CausalLM.prototype;
    const requests: unknown[] = [];
    const spy = vi.spyOn(CausalLM.prototype, 'openDecoding').mockImplementation(async function (
      this: CausalLM,
      request,
    ) {
      const decoding = await openDecoding.call(this, request);
      requests.push([request.inputIds[0]?.length, decoding.expertsCalls]);
      return decoding;
    });
    await json('--experts', 'eager');
    spy.mockRestore();
    // Five layers: the prompt and three steps.
    expect(requests.at(-1)).toEqual([16, { eager: 5 * 4 }]);
  });

  test('measures an image-text model on text, and a setting by sub-config', async () => {
    const setting = 'text_config=batched_mm,vision_config=eager';
    const report = await json('--model', goldenModel('qwen3_vl_moe_e'), '--experts', setting);
    expect(report.architecture).toBe('qwen3_vl_moe');
    expect(report.backends).toMatchObject([{ experts: setting }]);
  });

  test('--crossover compares prefill at every length the context holds', async () => {
    const { exitCode, stdout } = await run([
      'bench',
      '--crossover',
      '--model',
      goldenModel('qwen2_moe_a'),
      '--runs',
      '1',
      '--json',
    ]);
    expect(exitCode).toBe(0);
    const { rows } = JSON.parse(stdout);
    expect(rows.map((row: { tokens: number }) => row.tokens)).toEqual([
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512,
    ]);
    for (const { backends } of rows) {
      const shares = backends.map((b: { ofBest: number }) => b.ofBest);
      expect(shares).toHaveLength(3);
      expect(Math.max(...shares)).toBe(1);
    }
  });

  test('stops when told to', async () => {
    const stop = new AbortController();
    const { openDecoding } = CausalLM.prototype;
    const spy = vi.spyOn(CausalLM.prototype, 'openDecoding').mockImplementation(function (
      this: CausalLM,
      request,
    ) {
      stop.abort(new Stop('interrupted', 130));
      return openDecoding.call(this, request);
    });
    const { exitCode, stdout } = await run([...QUICK, '--new', '900'], { stop: stop.signal });
    const calls = spy.mock.calls.length;
    spy.mockRestore();
    expect({ exitCode, stdout, calls }).toEqual({ exitCode: 130, stdout: '', calls: 1 });
  });

  test.each([
    [['--experts', 'eagre'], /Did you mean "eager"/],
    [['--prompt', '5,x'], /prompt lengths separated by commas/],
    [['--prompt', '0'], /prompt lengths separated by commas/],
    [['--runs', '0'], /whole number from 1 to 1000/],
    [['--new', '0'], /whole number of at least 1/],
    [['--prompt', '5,2000,3000'], /--prompt asks for 2000 and 3000 tokens.*1024/],
    [['--new', '1020'], /--new asks for 1020 tokens after a prompt of 16.*1024/],
  ])('refuses %j', async (args, message) => {
    const { exitCode, stdout, stderr } = await run(['bench', ...args]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });
});

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
    for (const { decode, memory } of report.backends) {
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

  test('keeps decoding on grouped_mm, and bounds the memory of weights, where asked to', async () => {
    const report = await onGpu('--no-decode-with-batched-mm', '--experts', 'grouped_mm');
    expect(report).not.toHaveProperty('decodeBackend');
    const { exitCode, stderr } = await run([...QUICK, ...small, '--max-memory', '1KB']);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/maxMemory .* at least/);
  });

  test('refuses a device that is not there', async () => {
    const { exitCode, stderr } = await run([...QUICK, '--device', 'cuda:7']);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/no GPU 7: found Emulated GPU/);
  });
});
