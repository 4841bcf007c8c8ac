import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const scripts = join(import.meta.dirname, '../../scripts');
const part = (name: string) => import(join(scripts, 'gpu-report', name));
const { parseOptions } = await part('options.mjs');
const { findCudaProgram, lacksOf, mustRun, run } = await part('programs.mjs');
const { parseBench, parseTorch } = await part('tables.mjs');
const { judge } = await part('goals.mjs');
const { gpuReport, reportName } = await part('report.mjs');

const BENCH = `A GPU, compute capability 9.0, driver for CUDA 13.0, runtime 12.9, GEMMs through cuBLASLt
measured: copy 4000 GB/s, host to device 50.0 GB/s, bf16 matrix product 700 TFLOP/s

linear 3 x 5                             error 1.0e-03 ok

weights separate

| model | dtype | routing | tokens | backend | error | µs | µs in a graph | GB/s (of copy) | TFLOP/s (of matrix) |
| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |
| qwen3 | bfloat16 | uniform | 1 | batched_mm | 2.0e-03 |      20.0 |      18.0 |   3200 ( 80%) |    1.9 (  0%) |
| qwen3 | bfloat16 | skewed | 16 | batched_mm | 2.0e-03 |     100.0 |      98.0 |   3040 ( 76%) |    3.0 (  0%) |
| qwen3 | bfloat16 | uniform | 64 | batched_mm | 2.0e-03 |     400.0 |     398.0 |    400 ( 10%) |    3.0 (  0%) |
| qwen3 | bfloat16 | uniform | 4096 | grouped_mm (mma) | 2.0e-03 |    1000.0 |     990.0 |    800 ( 20%) |  350.0 ( 50%) |
| qwen3 | bfloat16 | uniform | 4096 | grouped_mm | 2.0e-03 |     800.0 |     790.0 |    800 ( 20%) |  434.0 ( 62%) |
| qwen3 | bfloat16 | uniform | 4096 | eager | 2.0e-03 |    2000.0 |         - |    800 ( 20%) |  200.0 ( 29%) |
| qwen3 | float32 | uniform | 4096 | grouped_mm | 2.0e-02 WRONG |

1 failures
`;
const TORCH = `A GPU, torch 2.13.0, CUDA 12.9

| model | tokens | torch.bmm | torch grouped_mm | eager | batched_mm | grouped_mm |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| qwen3 | 1 | 50.0 | 60.0 | 900.0 | 40.0 | 80.0 |
| qwen3 | 4096 | - | 850.0 | 5000.0 | - | 1500.0 |
`;

/** The letter that Linux gives a process. */
function stateOf(pid: string): string | undefined {
  try {
    return /\) (\w) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
  } catch {
    return 'gone';
  }
}

describe('the command line', () => {
  test('has defaults for everything', () => {
    expect(parseOptions([])).toMatchObject({
      ...{ device: 'cuda', dtype: 'bfloat16', rounds: 5, newTokens: 64, steps: 1000, skip: [] },
    });
    expect(parseOptions(['--skip', 'build,torch', '--steps', '8'])).toMatchObject({
      ...{ skip: ['build', 'torch'], steps: 8 },
    });
    expect(parseOptions(['--only', 'torch,goldens', '--skip', 'goldens']).skip).toEqual([
      ...['build', 'sanitizer', 'kernels', 'goldens', 'session', 'transformers', 'llamacpp'],
    ]);
    expect(parseOptions(['--help'])).toBeUndefined();
  });

  test.each([
    [['--device', 'cpu'], /--device is cpu; expected cuda or cuda:N/],
    [['--dtype', 'int8'], /--dtype is int8/],
    [['--skip', 'build,nothing'], /no step nothing; known are build, sanitizer/],
    [['--only', 'everything'], /--only has no step everything; known are build, sanitizer/],
    [['--steps', '0'], /--steps is 0; expected a whole number above zero/],
    [['--gguf', 'a.gguf'], /--gguf and --peers go together/],
    [['--gguf', 'a.gguf', '--peers', 'p'], /--gguf needs --model/],
    [['--model', '/no/such/folder'], /--model: there is no \/no\/such\/folder/],
    [['--colour'], /--colour/],
  ])('%j ends with exit code 2', (args, message) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(scripts, 'gpu-report.mjs'), ...(args as string[])],
      { encoding: 'utf8' },
    );
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(message as RegExp);
  });
});

describe('what is there', () => {
  test('lacks are those of the machine, not the kernels that are about to be built', () => {
    const kernels = { what: "Switchyard's CUDA kernels: no /x/lib.so", step: 'build' };
    const driver = { what: 'an NVIDIA driver: no libcuda.so.1', step: 'install it' };
    const diagnosis = { cuda: { kernels: { name: '/x/lib.so' }, lacks: [kernels, driver] } };
    expect(lacksOf(diagnosis)).toEqual([driver]);
  });

  test('programs of the toolkit are found by CUDA_HOME, then PATH, then in the usual place', () => {
    const exists = (path: string) => path.startsWith('/opt/') || path.startsWith('/usr/local/cuda/');
    const find = (env: object) => findCudaProgram('tool', env, exists);
    expect(find({ CUDA_HOME: '/opt/cuda', PATH: '/opt/bin' })).toBe('/opt/cuda/bin/tool');
    expect(find({ PATH: '/bin:/opt/bin' })).toBe('/opt/bin/tool');
    expect(find({})).toBe('/usr/local/cuda/bin/tool');
    expect(findCudaProgram('tool', {}, () => false)).toBeUndefined();
  });

  test('a program that fails is told with its last words', async () => {
    const code = 'console.log("a figure"); console.error("no room"); process.exit(3)';
    const quiet = { quiet: true };
    expect(await run(process.execPath, ['-e', code], quiet)).toEqual({
      ...{ code: 3, output: 'a figure\n', errors: 'no room\n' },
    });
    await expect(mustRun(process.execPath, ['-e', code], quiet)).rejects.toThrow(/ended with 3: no room/);
    await expect(run('./no/such/program', [], quiet)).rejects.toThrow(/cannot be started/);
  });

  test('a program that hangs is ended with what it started, and what it said is kept', async () => {
    const code = `
      const { pid } = require('node:child_process').spawn('sleep', ['600'], { stdio: 'ignore' });
      console.log(pid);
      setInterval(() => {}, 1000);`;
    // Long enough for the program to have begun, however slow the machine is.
    let ended = { code: 0, output: '', errors: '' };
    let minutes = 0.01;
    for (; ended.output === ''; minutes *= 2) {
      ended = await run(process.execPath, ['-e', code], { quiet: true, minutes });
    }
    const { code: status, output, errors } = ended;
    expect(status).toBeNull();
    expect(errors).toContain(`ended because it took more than ${minutes / 2} minutes`);
    // Gone, or dead and waiting for somebody to notice; being killed takes a moment.
    await expect.poll(() => stateOf(output.trim())).toMatch(/^(gone|Z|X)$/);
  });
});

describe('tables', () => {
  test('of the bench program become rates and rows', () => {
    const { rows, card, ...rest } = parseBench(BENCH);
    expect(card).toMatch(/^A GPU, compute/);
    expect(rest).toEqual({ copyRate: 4000, uploadRate: 50, matrixRate: 700, failures: 1 });
    expect(rows).toHaveLength(7);
    expect(rows[0]).toEqual({
      ...{ layout: 'separate', model: 'qwen3', dtype: 'bfloat16', routing: 'uniform', tokens: 1 },
      ...{
        backend: 'batched_mm',
        isWrong: false,
        time: 20,
        graphTime: 18,
        shareOfCopy: 0.8,
        shareOfMatrix: 0,
      },
    });
    expect(rows[5].graphTime).toBeUndefined();
    expect(rows[6]).toMatchObject({ isWrong: true, time: undefined });
  });

  test('of torch become times by column', () => {
    const [one, many] = parseTorch(TORCH);
    expect(one).toMatchObject({ model: 'qwen3', tokens: 1, times: { 'torch.bmm': 50, batched_mm: 40 } });
    expect(many.times).toMatchObject({ 'torch.bmm': undefined, grouped_mm: 1500 });
    expect(parseTorch('torch is not installed')).toEqual([]);
  });
});

/** A comparison in which transformers takes 4 and llama.cpp 1.3 times as long as recorded steps do. */
const peers = () => {
  const backend = (name: string, decode: number) => ({ name, prefill: {}, decode, tokens: [] });
  const duel = (peer: string, decode: number) => ({
    hellos: { Switchyard: { version: 'Switchyard 1' }, [peer]: { version: peer } },
    turns: [1, 2, 4].map((slow) => ({
      results: {
        Switchyard: [backend('grouped_mm', 2 * slow), backend('grouped_mm recorded', slow)],
        [peer]: [backend('slowest', 9 * slow), backend('best', decode * slow)],
      },
    })),
  });
  return { duels: [duel('transformers', 4), duel('llama.cpp', 1.1)] };
};
const session = {
  card: { name: 'A GPU', computeCapability: '9.0', memoryBytes: 8e10, copyRate: 4e12 },
  load: { seconds: 0.5, bytes: 20e9, rate: 40e9, bytesPerToken: 2e9 },
  prefill: { seconds: { grouped_mm: { 128: 0.01 }, batched_mm: {}, eager: { 128: 0.04 } } },
  decode: { seconds: { grouped_mm: 0.002, batched_mm: 0.001, eager: 0.004 } },
  recorded: { error: 'steps cannot be recorded: a reason' },
  switch: { extra: { plain: 0.0005, recorded: 0.002 } },
  memory: { steps: 1000, before: 9e9, after: 9e9 },
};

describe('goals', () => {
  const verdicts = (results: object): [string, string, string][] =>
    judge(results).map(({ goal, measured, verdict }: Record<string, string>) => [goal, measured, verdict]);

  test('are all not measured where nothing ran', () => {
    const all = verdicts({});
    expect(all).toHaveLength(11);
    expect(new Set(all.map(([, , verdict]) => verdict))).toEqual(new Set(['not measured']));
  });

  test('are held against what was measured', () => {
    const results = { bench: parseBench(BENCH), torch: parseTorch(TORCH), session, peers: peers() };
    expect(verdicts(results)).toEqual([
      [
        "decode at least 3 × as fast as transformers' best",
        '2.00 × (grouped_mm), 4.00 × (grouped_mm recorded)',
        'met',
      ],
      [
        'decode at least 1.2 × as fast as llama.cpp',
        '0.55 × (grouped_mm), 1.10 × (grouped_mm recorded)',
        'missed',
      ],
      [expect.stringMatching(/^load at 70 %/), '80 %: 40.00 GB/s, 0.50 s, of 50 GB/s', 'met'],
      [
        'switching backends costs less than 1 ms',
        '0.500 ms (plain steps), 2.000 ms (recorded steps)',
        'missed',
      ],
      ['no growth of memory with 1000 decode steps', '9000.0 MB before, 9000.0 MB after', 'met'],
      [expect.stringMatching(/^batched_mm at 80 %/), '76 % to 80 % in 2 cases', 'missed'],
      [expect.stringMatching(/^grouped_mm at 70 %/), '62 % to 62 % in 1 cases', 'missed'],
      [expect.stringMatching(/^eager .* transformers' eager/), expect.stringMatching(/^2\.50 ×/), 'met'],
      [expect.stringMatching(/^batched_mm .* 1\.3/), expect.stringMatching(/^2\.00 × to 2\.00 ×/), 'met'],
      [expect.stringMatching(/^grouped_mm .* 1\.3/), expect.stringMatching(/^1\.88 ×.* of 1 cases/), 'met'],
      [expect.stringMatching(/^grouped_mm .* torch/), expect.stringMatching(/^1\.06 ×/), 'missed'],
    ]);
  });

  test('of memory is missed where it grows, of loading unknown without a copy rate', () => {
    const grown = { ...session, memory: { steps: 1000, before: 9e9, after: 9.1e9 } };
    const found = verdicts({ session: grown });
    expect(found.find(([goal]) => goal.startsWith('no growth'))?.[2]).toBe('missed');
    expect(found.find(([goal]) => goal.startsWith('load'))).toEqual([
      ...[expect.anything(), '40.00 GB/s, 0.50 s; the copy rate is unknown', 'not measured'],
    ]);
  });
});

test('the report tells the card, the goals, each step, the session and what the programs printed', () => {
  const results = { bench: parseBench(BENCH), benchText: BENCH, session, peersReport: '### a comparison' };
  const setting = {
    ...{ card: 'A GPU', driver: '600.1', cuda: '12.9', switchyard: '1.2.3', node: '20.0.0', os: 'Linux 6' },
    ...{ cpu: 'A CPU', date: '2026-01-02', model: 'a-model', dtype: 'bfloat16', isDemo: true },
    versions: ['transformers 5'],
  };
  const steps = [
    { name: 'kernels', outcome: 'failed', detail: 'ended with 1:\n a | b' },
    { name: 'torch', outcome: 'left out', detail: 'give --python PYTHON' },
  ];
  const goals = [{ goal: 'a goal', measured: '4 ×', verdict: 'met' }];
  const text: string = gpuReport({ setting, steps, goals, results });
  expect(text).toMatch(
    /^# A GPU\n\n2026-01-02; A GPU, driver 600\.1, CUDA 12\.9, Switchyard 1\.2\.3, transformers 5,/,
  );
  expect(text).toContain('| a goal | 4 × | met |');
  expect(text).toContain('| kernels | failed | ended with 1: a / b |');
  expect(text).toContain('The demo model is tiny');
  expect(text).toContain('- recorded failed: steps cannot be recorded: a reason\n');
  expect(text).toContain(
    '- load: 0.500 s, 20.000 GB of weights, 40.0 GB/s, 80 % of the copy rate of 50 GB/s\n',
  );
  expect(text).toContain('| batched_mm | – | 1000 | 50 % | – | – |');
  expect(text).toContain('| eager | 3200 | 250 | 13 % | – | – |');
  expect(text).toContain('### a comparison');
  expect(text).toContain('1 failures\n```');
  expect(text).not.toContain('Kernels of torch');
  expect(reportName('NVIDIA H200 NVL')).toBe('nvidia-h200-nvl.md');
});
