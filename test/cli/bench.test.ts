import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { Stop } from '../../src/cli/io.ts';
import { CausalLM } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { QUANTIZED_FOLDER } from '../helpers/quantized-goldens.ts';
import { run } from './capture.ts';

vi.mock(import('../../src/runtime/machine.ts'), async (original) => {
  const { briefly } = await import('../helpers/brief-measurements.ts');
  return briefly(await original());
});

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
      expect(prefill[0].coldTokensPerSecond.median).toBeGreaterThan(0);
      expect(decode).toHaveLength(1);
      expect(decode[0].tokensPerSecond.median).toBeGreaterThan(0);
      expect(decode[0].shareOfReadRate).toBeGreaterThan(0);
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

  test('decodes some requests at a time, and says how many of the experts they share', async () => {
    const report = await json('--experts', 'grouped_mm', '--requests', '3,1');
    const [three, one] = report.backends[0].decode;
    expect([three.requests, one.requests]).toEqual([3, 1]);
    expect(one.bytesPerStep).toBe(report.bytesPerDecodedToken);
    expect(three.bytesPerStep).toBeGreaterThan(one.bytesPerStep);
    expect(three.bytesPerStep).toBeLessThan(3 * one.bytesPerStep);
  });

  test('measures a model without experts as it is', async () => {
    const folder = join(import.meta.dirname, '../fixtures/dense/qwen3');
    const dense = await json('--model', folder, '--requests', '2');
    expect(dense.backends.map((backend: { experts: string }) => backend.experts)).toEqual(['eager']);
    expect(dense.backends[0].decode[0].bytesPerStep).toBe(dense.bytesPerDecodedToken);
  });

  test('says that activations are rounded where nobody asked for it', async () => {
    const report = await json('--model', join(QUANTIZED_FOLDER, 'qwen3_moe_ct_w4a16'), '--dtype', 'bfloat16');
    expect(report).toMatchObject({ activations: 'int8' });
  });

  test('uses the backend it reports, and keeps the end token of the model out', async () => {
    const { openDecoding } = CausalLM.prototype;
    const requests: unknown[] = [];
    const spy = vi.spyOn(CausalLM.prototype, 'openDecoding').mockImplementation(async function (
      this: CausalLM,
      request,
    ) {
      const decoding = await openDecoding.call(this, request);
      requests.push([request.prompts[0]?.ids.length, decoding.expertsCalls]);
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
    [['--requests', '1,0'], /numbers of requests from 1 to 256/],
    [['--crossover', '--requests', '8'], /--requests is about decoding/],
    [['--new', '0'], /whole number of at least 1/],
    [['--prompt', '5,2000,3000'], /--prompt asks for 2000 and 3000 tokens.*1024/],
    [['--new', '1020'], /--new asks for 1020 tokens after a prompt of 16.*1024/],
  ])('refuses %j', async (args, message) => {
    const { exitCode, stdout, stderr } = await run(['bench', ...args]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });
});
