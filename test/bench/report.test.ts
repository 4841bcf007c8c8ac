import { describe, expect, test } from 'vitest';
import type { Samples } from '../../src/bench/measure.ts';
import { memoryUse } from '../../src/bench/memory.ts';
import { benchReport, crossoverReport, describeBench, describeCrossover } from '../../src/bench/report.ts';

const setting = {
  model: 'some/model',
  architecture: 'qwen3_moe',
  dtype: 'bfloat16',
  device: 'cpu',
  threads: 2,
  runs: 3,
  storage: { kinds: ['int4', 'bfloat16'], bits: 6.54321 },
  machine: {
    cpu: 'A CPU',
    isa: 'avx2',
    memoryBytes: 16 * 2 ** 30,
    os: 'Linux 6',
    node: '20.0.0',
    readGigabytesPerSecond: 20,
    readPattern: 'a pattern',
    gigaflopsPerSecond: 400,
  },
};
const samples = (
  name: string,
  prefill: [number, number[]][],
  decode: [number, number[], number?][] = [],
  cold: number[] = [],
): Samples => ({
  name,
  prefill: new Map(prefill.map(([tokens, warm]) => [tokens, { warm, cold }])),
  decode: new Map(
    decode.map(([requests, ms, read = 1]) => [requests, { ms, expertsRead: ms.map(() => read) }]),
  ),
  memory: [
    { resident: 3e9, privateDirty: 90e6, mapped: 2e9 },
    { resident: 2e9, privateDirty: 100e6, mapped: 1e9 },
  ],
});

describe('the report', () => {
  const work = {
    // A fifth are those of the experts.
    decodedBytes: (experts: number) => (0.8 + 0.2 * experts) * 1e9,
    prefillFlops: new Map([[100, 100e9]]),
  };
  const report = benchReport(setting, [0.1, 0.3, 0.2], work, [
    samples(
      'eager',
      [[100, [500, 400, 1000]]],
      [
        [1, [100, 80, 125]],
        [8, [200, 160, 250], 6],
      ],
      [800, 500, 625],
    ),
  ]);

  test('turns times into speeds, with least and most', () => {
    expect(report.load).toEqual({ median: 0.2, min: 0.1, max: 0.3 });
    expect(report.backends[0]?.prefill[0]?.tokensPerSecond).toEqual({ median: 200, min: 100, max: 250 });
    expect(report.backends[0]?.prefill[0]?.coldTokensPerSecond).toEqual({ median: 160, min: 125, max: 200 });
    expect(report.backends[0]?.decode.map((of) => of.tokensPerSecond)).toEqual([
      { median: 10, min: 8, max: 12.5 },
      { median: 40, min: 32, max: 50 },
    ]);
  });

  test('relates them to what the machine can do', () => {
    expect(report.backends[0]?.prefill[0]).toMatchObject({ flopsPerToken: 1e9, shareOfFlops: 0.5 });
    const [one, eight] = report.backends[0]?.decode ?? [];
    expect(one?.shareOfReadRate).toBeCloseTo(0.5, 12);
    expect(eight).toMatchObject({ requests: 8, bytesPerStep: 2e9 });
    expect(eight?.shareOfReadRate).toBeCloseTo(0.5, 12);
  });

  test('keeps the most memory seen', () => {
    expect(report.backends[0]?.memory).toEqual({ resident: 3e9, privateDirty: 100e6, mapped: 2e9 });
  });

  test('reads well', () => {
    expect(describeBench(report)).toBe(
      [
        'model      some/model (qwen3_moe), bfloat16, 2 threads',
        'weights    int4, bfloat16: 6.54 bits each',
        'machine    A CPU, avx2, 16.0 GiB, Linux 6, Node 20.0.0',
        '           reads 20.0 GB/s (a pattern), multiplies 400 GFLOP/s',
        'runs       3; medians, with least and most in brackets',
        'load       0.200 (0.100–0.300) s',
        'work       a decoded token reads 1.00 GB of weights; a prompt token costs 1.00 GFLOP at 100',
        '',
        '                                            eager',
        'prefill 100, tokens/s               200 (100–250)',
        '  after a rest                      160 (125–200)',
        '  of the best product                         50%',
        'decode, tokens/s                 10.0 (8.00–12.5)',
        '  of the best read rate                       50%',
        'decode of 8 requests, tokens/s   40.0 (32.0–50.0)',
        '  of the best read rate                       50%',
        '  times one request                  4.00 of 4.00',
        'memory of its own, MB                         100',
        'memory mapped, MB                            2000',
        '',
      ].join('\n'),
    );
  });
});

describe('the report of a GPU', () => {
  const { gigaflopsPerSecond: _, ...host } = setting.machine;
  const machine = {
    ...host,
    gpu: { name: 'A GPU', computeCapability: '9.0', memoryBytes: 80 * 2 ** 30 },
    readGigabytesPerSecond: 2000,
    readPattern: 'copies',
  };
  const onGpu = {
    ...setting,
    activations: 'int8' as const,
    device: 'A GPU',
    decodeBackend: 'batched_mm',
    machine,
  };
  const work = { decodedBytes: () => 1e9, prefillFlops: new Map([[100, 100e9]]), loadedBytes: 20e9 };
  const { memory, ...timed } = samples('grouped_mm', [[100, [50]]], [[1, [1]]]);
  const sample = { ...timed, memory: memory.map((use, i) => ({ ...use, gpu: (i + 1) * 1e9 })) };
  const report = benchReport(onGpu, [2, 4, 5], work, [sample]);

  test('relates decoding to the copy rate, loading to the bytes brought there, and prefill to nothing', () => {
    expect(report.loadGigabytesPerSecond).toEqual({ median: 5, min: 4, max: 10 });
    expect(report.backends[0]?.decode[0]?.shareOfReadRate).toBeCloseTo(0.5, 12);
    expect(report.backends[0]?.prefill[0]).not.toHaveProperty('shareOfFlops');
    expect(report.backends[0]?.memory.gpu).toBe(2e9);
  });

  test('reads well', () => {
    expect(describeBench(report)).toBe(
      [
        'model      some/model (qwen3_moe), bfloat16, 2 threads',
        'weights    int4, bfloat16: 6.54 bits each, activations int8',
        'device     A GPU, compute capability 9.0, 80.0 GiB',
        '           copies 2000 GB/s (copies)',
        'machine    A CPU, avx2, 16.0 GiB, Linux 6, Node 20.0.0',
        'runs       3; medians, with least and most in brackets',
        'decode     grouped_mm decodes with batched_mm',
        'load       4.00 (2.00–5.00) s: 5.00 (4.00–10.0) GB/s',
        'work       a decoded token reads 1.00 GB of weights; a prompt token costs 1.00 GFLOP at 100',
        '',
        '                        grouped_mm',
        'prefill 100, tokens/s         2000',
        'decode, tokens/s              1000',
        '  of the copy rate             50%',
        'GPU memory in use, MB         2000',
        'memory of its own, MB          100',
        'memory mapped, MB             2000',
        '',
      ].join('\n'),
    );
  });
});

describe('the crossover report', () => {
  const report = crossoverReport(setting, [
    samples('grouped_mm', [
      [1, [10, 12, 11]],
      [64, [20]],
    ]),
    samples('eager', [
      [1, [8, 8.8, 99]],
      [64, [80]],
    ]),
  ]);

  test('sets each backend beside the fastest of its length', () => {
    const shares = report.rows.map(({ tokens, backends }) => [tokens, ...backends.map((b) => b.ofBest)]);
    expect(shares).toEqual([
      [1, 8.8 / 11, 1],
      [64, 1, 0.25],
    ]);
  });

  test('reads well', () => {
    const lines = describeCrossover(report).split('\n').slice(-4);
    expect(lines).toEqual([
      'tokens   grouped_mm, tokens/s   of best   eager, tokens/s   of best',
      '1                        90.9      0.80               114      1.00',
      '64                       3200      1.00               800      0.25',
      '',
    ]);
  });
});

describe('memory', () => {
  test('is told apart into own and mapped where the system does', () => {
    const rollup = 'Rss:    3000 kB\nPss:  5 kB\nPrivate_Dirty:   200 kB\nAnonymous:     1000 kB\n';
    expect(memoryUse(rollup)).toEqual({
      resident: 3000 * 1024,
      privateDirty: 200 * 1024,
      mapped: 2000 * 1024,
    });
  });

  test('is the resident size elsewhere', () => {
    const { resident, ...rest } = memoryUse('nothing known');
    expect(resident).toBeGreaterThan(1e6);
    expect(rest).toEqual({});
  });
});
