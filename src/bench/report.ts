/** From raw samples to what `switchyard bench` prints. */
import type { DecodeTimes, PrefillTimes, Samples } from './measure.ts';
import type { MemoryUse } from './memory.ts';
import { median, type Spread, spread } from './statistics.ts';
import { digits, percent, scaled, textTable } from './table.ts';
import type { Storage } from './work.ts';

/** What was measured, and on what. */
export interface Setting {
  readonly model: string;
  readonly architecture: string;
  readonly dtype: string;
  /** `cpu`, or the name of the GPU. */
  readonly device: string;
  readonly threads: number;
  readonly runs: number;
  /** What the weights are stored as; on a GPU, in the files. */
  readonly storage: Storage;
  /** What activations are rounded to where that is possible, if at all. */
  readonly activations?: 'int8';
  /** Backend that decode steps of `grouped_mm` run on, where it is another. */
  readonly decodeBackend?: string;
  readonly machine: MachineReport;
}

export interface MachineReport {
  readonly cpu: string;
  /** Instruction set of the kernels. */
  readonly isa: string;
  readonly memoryBytes: number;
  readonly os: string;
  readonly node: string;
  /** Where the model computes, if not on the CPU. */
  readonly gpu?: GpuReport;
  /**
   * 1e9 bytes a second: of the best pass of the best access pattern; on a GPU of copies within its memory, with what is read and
   * what is written.
   */
  readonly readGigabytesPerSecond: number;
  readonly readPattern: string;
  /** 1e9 floating-point operations a second, of the CPU's best matrix product at the model's precision. */
  readonly gigaflopsPerSecond?: number;
}

export interface GpuReport {
  readonly name: string;
  readonly computeCapability: string;
  readonly memoryBytes: number;
}

/** What the model has to do, counted from its shapes. */
export interface Work {
  /** Of a step that reads so many experts, in multiples of those of one token. */
  readonly decodedBytes: (experts: number) => number;
  /** By prompt length: operations of the whole prompt. */
  readonly prefillFlops: ReadonlyMap<number, number>;
  /** Weights on the GPU. */
  readonly loadedBytes?: number;
}

export interface BenchReport extends Setting {
  /** Seconds of `fromPretrained`. */
  readonly load: Spread;
  /** Weights brought to the GPU, 1e9 bytes a second of `load`. */
  readonly loadGigabytesPerSecond?: Spread;
  readonly bytesPerDecodedToken: number;
  readonly backends: readonly BackendReport[];
}

export interface BackendReport {
  readonly experts: string;
  readonly prefill: readonly PrefillReport[];
  readonly decode: readonly DecodeReport[];
  /** Largest seen after decoding, in bytes. All backends share one process. */
  readonly memory: MemoryUse;
}

export interface PrefillReport {
  readonly tokens: number;
  /** Of passes in a row. */
  readonly tokensPerSecond: Spread;
  /** Of the first pass after a rest. */
  readonly coldTokensPerSecond?: Spread;
  readonly flopsPerToken: number;
  /** Of the CPU's best matrix product, by passes in a row. */
  readonly shareOfFlops?: number;
}

export interface DecodeReport {
  /** At a time. */
  readonly requests: number;
  /** Of all requests together. */
  readonly tokensPerSecond: Spread;
  /** Weights that a step reads, which serves a token of each request. */
  readonly bytesPerStep: number;
  /** Of the machine's best read rate. Above 1 where weights fit into the caches. */
  readonly shareOfReadRate: number;
}

export interface CrossoverReport extends Setting {
  readonly rows: readonly {
    readonly tokens: number;
    readonly backends: readonly {
      readonly experts: string;
      readonly tokensPerSecond: Spread;
      /** Of the fastest backend's median speed at this length. */
      readonly ofBest: number;
    }[];
  }[];
}

export function benchReport(
  setting: Setting,
  loadSeconds: readonly number[],
  work: Work,
  samples: readonly Samples[],
): BenchReport {
  return {
    ...setting,
    load: spread(loadSeconds),
    ...(work.loadedBytes !== undefined && {
      loadGigabytesPerSecond: spread(
        loadSeconds.map((seconds) => (work.loadedBytes as number) / seconds / 1e9),
      ),
    }),
    bytesPerDecodedToken: work.decodedBytes(1),
    backends: samples.map((sample) => ({
      experts: sample.name,
      prefill: [...sample.prefill].map(([tokens, times]) =>
        prefillReport(tokens, times, work, setting.machine),
      ),
      decode: [...sample.decode].map(([requests, times]) =>
        decodeReport(requests, times, work, setting.machine),
      ),
      memory: largest(sample.memory),
    })),
  };
}

function prefillReport(
  tokens: number,
  { warm, cold }: PrefillTimes,
  work: Work,
  machine: MachineReport,
): PrefillReport {
  const flops = work.prefillFlops.get(tokens) ?? 0;
  return {
    tokens,
    tokensPerSecond: speeds(tokens, warm),
    ...(cold.length > 0 && { coldTokensPerSecond: speeds(tokens, cold) }),
    flopsPerToken: flops / tokens,
    ...(machine.gigaflopsPerSecond !== undefined && {
      shareOfFlops: flops / (median(warm) / 1000) / (machine.gigaflopsPerSecond * 1e9),
    }),
  };
}

function decodeReport(
  requests: number,
  { ms, expertsRead }: DecodeTimes,
  work: Work,
  machine: MachineReport,
): DecodeReport {
  const bytesPerStep = work.decodedBytes(median(expertsRead));
  return {
    requests,
    tokensPerSecond: speeds(requests, ms),
    bytesPerStep,
    shareOfReadRate: bytesPerStep / (median(ms) / 1000) / (machine.readGigabytesPerSecond * 1e9),
  };
}

function speeds(tokens: number, ms: readonly number[]): Spread {
  return spread(ms.map((time) => (1000 * tokens) / time));
}

function largest(memory: readonly MemoryUse[]): MemoryUse {
  const most = (pick: (use: MemoryUse) => number | undefined) => Math.max(...memory.map((m) => pick(m) ?? 0));
  const resident = most((use) => use.resident);
  const gpu = memory.some((use) => use.gpu !== undefined) ? { gpu: most((use) => use.gpu) } : {};
  if (memory.some((use) => use.privateDirty === undefined)) return { resident, ...gpu };
  return {
    ...{ resident, privateDirty: most((use) => use.privateDirty), mapped: most((use) => use.mapped) },
    ...gpu,
  };
}

export function crossoverReport(setting: Setting, samples: readonly Samples[]): CrossoverReport {
  const lengths = [...(samples[0]?.prefill.keys() ?? [])];
  const rows = lengths.map((tokens) => {
    const times = samples.map(({ prefill }) => prefill.get(tokens)?.warm ?? []);
    const best = Math.min(...times.map(median));
    return {
      tokens,
      backends: samples.map(({ name }, i) => {
        const ms = times[i] ?? [];
        return { experts: name, tokensPerSecond: speeds(tokens, ms), ofBest: best / median(ms) };
      }),
    };
  });
  return { ...setting, rows };
}

/** The report for people: measurements down, backends across. */
export function describeBench(report: BenchReport): string {
  const { backends, load, loadGigabytesPerSecond: rate, bytesPerDecodedToken, machine } = report;
  const row: Row = (label, cell) => [label, ...backends.map(cell)];
  const lengths = backends[0]?.prefill.map(({ tokens }) => tokens) ?? [];
  const rows = [
    row('', ({ experts }) => experts),
    ...lengths.flatMap((tokens, i) => {
      const of = ({ prefill }: BackendReport) => prefill[i] as PrefillReport;
      return [
        row(`prefill ${tokens}, tokens/s`, (backend) => range(of(backend).tokensPerSecond)),
        ...(backends.some((backend) => of(backend).coldTokensPerSecond === undefined)
          ? []
          : [row('  after a rest', (backend) => range(of(backend).coldTokensPerSecond as Spread))]),
        ...(machine.gigaflopsPerSecond === undefined
          ? []
          : [row('  of the best product', (backend) => percent(of(backend).shareOfFlops ?? 0))]),
      ];
    }),
    ...decodeRows(row, report),
    ...memoryRows(row, backends),
  ];
  const flops = backends[0]?.prefill.map((p) => `${scaled(p.flopsPerToken)}FLOP at ${p.tokens}`) ?? [];
  return [
    describeSetting(report),
    `load       ${range(load)} s${rate ? `: ${range(rate)} GB/s` : ''}\n`,
    `work       a decoded token reads ${scaled(bytesPerDecodedToken)}B of weights`,
    `${flops.length > 0 ? `; a prompt token costs ${flops.join(', ')}` : ''}\n\n`,
    textTable(rows),
  ].join('');
}

type Row = (label: string, cell: (backend: BackendReport) => string) => string[];

function decodeRows(row: Row, { backends, machine }: BenchReport): string[][] {
  return (backends[0]?.decode ?? []).flatMap(({ requests }, i) => {
    const of = ({ decode }: BackendReport) => decode[i] as DecodeReport;
    return [
      row(`decode${requests === 1 ? '' : ` of ${requests} requests`}, tokens/s`, (backend) =>
        range(of(backend).tokensPerSecond),
      ),
      row(machine.gpu ? '  of the copy rate' : '  of the best read rate', (backend) =>
        percent(of(backend).shareOfReadRate),
      ),
      ...(requests > 1 && backends.some(({ decode }) => decode.some((other) => other.requests === 1))
        ? [row('  times one request', (backend) => gain(of(backend), backend.decode))]
        : []),
    ];
  });
}

/** How many times the tokens of one request, and how many times there could be as the bytes are that both read. */
function gain(
  { requests, tokensPerSecond, bytesPerStep }: DecodeReport,
  all: readonly DecodeReport[],
): string {
  const one = all.find((other) => other.requests === 1) as DecodeReport;
  const most = (requests * one.bytesPerStep) / bytesPerStep;
  return `${digits(tokensPerSecond.median / one.tokensPerSecond.median)} of ${digits(most)}`;
}

function memoryRows(row: Row, backends: readonly BackendReport[]): string[][] {
  const megabytes = (bytes: number | undefined) => digits((bytes ?? 0) / 1e6);
  const onGpu = backends.some(({ memory }) => memory.gpu !== undefined)
    ? [row('GPU memory in use, MB', ({ memory }) => megabytes(memory.gpu))]
    : [];
  if (backends.some(({ memory }) => memory.privateDirty === undefined))
    return [...onGpu, row('memory resident, MB', ({ memory }) => megabytes(memory.resident))];
  return [
    ...onGpu,
    row('memory of its own, MB', ({ memory }) => megabytes(memory.privateDirty)),
    row('memory mapped, MB', ({ memory }) => megabytes(memory.mapped)),
  ];
}

export function describeCrossover(report: CrossoverReport): string {
  const names = report.rows[0]?.backends.map(({ experts }) => experts) ?? [];
  const header = ['tokens', ...names.flatMap((name) => [`${name}, tokens/s`, 'of best'])];
  const rows = report.rows.map(({ tokens, backends }) => [
    String(tokens),
    ...backends.flatMap((b) => [digits(b.tokensPerSecond.median), b.ofBest.toFixed(2)]),
  ]);
  return `${describeSetting(report)}\n${textTable([header, ...rows])}`;
}

function describeSetting(setting: Setting): string {
  const { model, architecture, dtype, threads, runs, machine, decodeBackend, storage, activations } = setting;
  const { gpu, gigaflopsPerSecond: gigaflops } = machine;
  const rate = `${digits(machine.readGigabytesPerSecond)} GB/s (${machine.readPattern})`;
  const product = gigaflops === undefined ? '' : `, multiplies ${digits(gigaflops)} GFLOP/s`;
  const gibibytes = (bytes: number) => `${digits(bytes / 2 ** 30)} GiB`;
  const card =
    gpu && `${gpu.name}, compute capability ${gpu.computeCapability}, ${gibibytes(gpu.memoryBytes)}`;
  return [
    `model      ${model} (${architecture}), ${dtype}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    `weights    ${storage.kinds.join(', ')}: ${digits(storage.bits)} bits each${activations ? `, activations ${activations}` : ''}`,
    ...(card ? [`device     ${card}`, `           copies ${rate}`] : []),
    `machine    ${machine.cpu}, ${machine.isa}, ${gibibytes(machine.memoryBytes)}, ${machine.os}, Node ${machine.node}`,
    ...(card ? [] : [`           reads ${rate}${product}`]),
    `runs       ${runs}${runs > 1 ? '; medians, with least and most in brackets' : ''}`,
    ...(decodeBackend === undefined ? [] : [`decode     grouped_mm decodes with ${decodeBackend}`]),
    '',
  ].join('\n');
}

function range({ median: middle, min, max }: Spread): string {
  return min === max ? digits(middle) : `${digits(middle)} (${digits(min)}–${digits(max)})`;
}
