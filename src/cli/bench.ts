import { type Command, InvalidArgumentError } from 'commander';
import { generativeAuto } from '../auto/auto-classes.ts';
import { type LoadedConfig, loadConfig, publicConfig } from '../auto/load-config.ts';
import { CpuGauge, type Gauge, GpuGauge } from '../bench/machine.ts';
import { type Candidate, DECODE_PROMPT, measure, type Plan, type Samples } from '../bench/measure.ts';
import {
  benchReport,
  crossoverReport,
  describeBench,
  describeCrossover,
  type Setting,
} from '../bench/report.ts';
import { bytesPerDecodedToken, prefillFlops, storageOf, weightWork } from '../bench/work.ts';
import { type DType, ELEMENT_TYPES } from '../dtype.ts';
import {
  type CausalLM,
  DEMO_MODEL,
  ExpertsInterface,
  type ImageTextToText,
  type LoadOptions,
  type ResolvedRepo,
} from '../index.ts';
import type { ModelWeights } from '../model/model-parts.ts';
import { isRoutedExpert } from '../models/architecture.ts';
import { openDevice } from '../runtime/choose-device.ts';
import { defaultThreads } from '../runtime/threads.ts';
import { type Io, UsageError } from './io.ts';
import { measureAhead } from './measure-ahead.ts';
import { openModelRepo } from './open-model-repo.ts';
import {
  addComputeOptions,
  type ComputeFlags,
  computeOptions,
  examples,
  experts,
  integer,
  requireDevice,
} from './options.ts';
import { createProgressDisplay } from './progress.ts';

const DEFAULT_PROMPTS = [128, 512];
/** Times to measure a GPU's memory; the best counts. */
const GPU_MEASUREMENTS = 3;
const MOST_REQUESTS = 256;
const CROSSOVER_PROMPTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

interface Flags extends ComputeFlags {
  model?: string;
  revision?: string;
  experts?: Candidate[];
  prompt?: number[];
  new: number;
  requests?: number[];
  runs: number;
  crossover?: boolean;
  json?: boolean;
}

/** `switchyard bench`: how fast a model runs on each experts backend, and how fast this machine could. */
export function addBenchCommand(program: Command, io: Io): void {
  const command = program
    .command('bench')
    .description('Measure load, prefill, decode and memory. Without --model, the bundled demo model runs.')
    .option('-m, --model <model>', 'a repo on the Hugging Face Hub, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--experts <names>', 'backends, such as eager,grouped_mm; or all; or key=name', candidates)
    .option('--prompt <lengths>', `prompt lengths in tokens (default: ${DEFAULT_PROMPTS.join()})`, lengths)
    .option('--new <n>', 'tokens to decode', integer(1), 32)
    .option('--requests <counts>', 'requests that decode at a time, such as 1,8 (default: 1)', requestCounts)
    .option('--runs <n>', 'times to measure; the median counts', integer(1, 1000), 3);
  addComputeOptions(command)
    .option('--crossover', 'only compare prefill across backends, from 1 to 1024 tokens')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      examples(['switchyard bench -m Qwen/Qwen1.5-MoE-A2.7B --experts all --prompt 128,512', '']),
    )
    .action((flags: Flags) => bench(flags, io));
}

/** Parser of `all`, `name,name` or `key=name,key=name`. */
function candidates(text: string): Candidate[] {
  if (text.trim() === 'all') return everyBackend();
  if (text.includes('=')) return [{ name: text, experts: experts(text) }];
  const names = text.split(',').map((name) => experts(name) as string);
  return [...new Set(names)].map((name) => ({ name, experts: name }));
}

/** The default first: it is the one that others are compared with. */
function everyBackend(): Candidate[] {
  const isDefault = (name: string) => name === 'grouped_mm';
  const names = ExpertsInterface.names();
  const ordered = [...names.filter(isDefault), ...names.filter((name) => !isDefault(name))];
  return ordered.map((name) => ({ name, experts: name }));
}

/** Parser of `128,512`. */
function lengths(text: string): number[] {
  return numbers(text, 2 ** 20) ?? refuse('It must be prompt lengths separated by commas, such as 128,512.');
}

/** Parser of `1,8`. */
function requestCounts(text: string): number[] {
  return (
    numbers(text, MOST_REQUESTS) ??
    refuse(`It must be numbers of requests from 1 to ${MOST_REQUESTS}, separated by commas, such as 1,8.`)
  );
}

function refuse(message: string): never {
  throw new InvalidArgumentError(message);
}

/** Different whole numbers from 1 to `most`, separated by commas. */
function numbers(text: string, most: number): number[] | undefined {
  const parts = text.split(',').map((part) => part.trim());
  const values = parts.map((part) => (/^\d+$/.test(part) ? Number(part) : 0));
  return values.every((value) => value >= 1 && value <= most) ? [...new Set(values)] : undefined;
}

async function bench(flags: Flags, io: Io): Promise<void> {
  await requireDevice(flags.device);
  const source = flags.model ?? DEMO_MODEL;
  const repo = await openModelRepo(source, flags, io);
  const config = await loadConfig(repo);
  // Of its own, beside the model's: the gauge opens before there is a model, and outlives it.
  const gpu = await openDevice(flags.device);
  try {
    const gpuGauge = gpu && new GpuGauge(gpu);
    for (let i = 0; gpuGauge && i < GPU_MEASUREMENTS; i++) await gpuGauge.measure();
    await benchModel(repo, flags, config, gpuGauge, io);
  } finally {
    await gpu?.dispose();
  }
}

async function benchModel(
  repo: ResolvedRepo,
  flags: Flags,
  config: LoadedConfig,
  gpuGauge: GpuGauge | undefined,
  io: Io,
): Promise<void> {
  const loadSeconds: number[] = [];
  let model = await timedLoad(repo, flags, config, loadSeconds, io);
  try {
    while (loadSeconds.length < (flags.crossover ? 1 : flags.runs)) {
      await model.dispose();
      model = await timedLoad(repo, flags, config, loadSeconds, io);
    }
    const loadedBytes = model.executionStats.residency?.residentBytes;
    await measureAhead(model, flags.compile, io);
    const threads = flags.threads ?? defaultThreads();
    const gauge = gpuGauge ?? new CpuGauge(model.dtype === 'bfloat16' ? 'bfloat16' : 'float32', threads);
    const plan = makePlan(flags, model, gauge, io);
    const samples = await measure(model, plan);
    const stored = model.stored();
    const setting = {
      ...describeModel(model, repo.id),
      ...{ threads, runs: flags.runs, machine: gauge.report(), storage: storageOf(stored.weights) },
      ...(model.executionStats.activationQuantization === 'int8' && { activations: 'int8' as const }),
    };
    const { json, text } = flags.crossover
      ? crossover(setting, samples)
      : full(setting, loadSeconds, loadedBytes, samples, plan, stored);
    io.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : text);
  } finally {
    await model.dispose();
  }
}

function describeModel(model: CausalLM | ImageTextToText, source: string) {
  const { dtype, modelType, executionStats } = model;
  const { decodeBackend } = executionStats;
  return {
    ...{ model: source, architecture: modelType, dtype, device: executionStats.device },
    // The model itself is set to grouped_mm, the default.
    ...(decodeBackend !== 'grouped_mm' && { decodeBackend }),
  };
}

async function timedLoad(
  repo: ResolvedRepo,
  flags: Flags,
  config: LoadedConfig,
  seconds: number[],
  io: Io,
): Promise<CausalLM | ImageTextToText> {
  const display = createProgressDisplay(io.stderr);
  const options: LoadOptions = {
    ...computeOptions(flags),
    // Every run is to compute its prompt.
    prefixCache: false,
    signal: io.stop,
    onProgress: display.onProgress.bind(display),
    // What the first load says, the others need not repeat.
    onWarning: (message) => seconds.length === 0 && display.write(`warning: ${message}\n`),
  };
  const auto = generativeAuto(publicConfig(config));
  const started = performance.now();
  const model = await auto.fromPretrained(repo, options).finally(() => display.finish());
  seconds.push((performance.now() - started) / 1000);
  return model;
}

function makePlan(flags: Flags, model: CausalLM | ImageTextToText, gauge: Gauge, io: Io): Plan {
  const { contextLength } = model;
  const { weights, work } = model.stored();
  const routed = weights.some(({ name }) => isRoutedExpert(work.use(name)));
  const wanted = flags.prompt ?? (flags.crossover ? CROSSOVER_PROMPTS : DEFAULT_PROMPTS);
  const tooLong = wanted.filter((tokens) => tokens > contextLength);
  // Lengths nobody asked for are left out where the model cannot have them.
  if (flags.prompt && tooLong.length > 0) {
    throw new UsageError(
      `--prompt asks for ${tooLong.join(' and ')} tokens, but the model's context holds ${contextLength}; ask for fewer`,
    );
  }
  if (flags.crossover && flags.requests)
    throw new UsageError('--requests is about decoding, which --crossover leaves out; give one of them');
  if (!flags.crossover && DECODE_PROMPT + flags.new > contextLength) {
    throw new UsageError(
      `--new asks for ${flags.new} tokens after a prompt of ${DECODE_PROMPT}, but the model's context holds ${contextLength}; ` +
        'ask for fewer',
    );
  }
  return {
    candidates: flags.experts ?? (routed ? everyBackend() : [{ name: 'eager', experts: 'eager' }]),
    prompts: wanted.filter((tokens) => tokens <= contextLength),
    newTokens: flags.crossover ? 0 : flags.new,
    requests: flags.requests ?? [1],
    routed,
    runs: flags.runs,
    cold: !flags.crossover,
    signal: io.stop,
    onStep: statusLine(io),
    // A GPU was measured while its memory was free.
    ...(gauge instanceof GpuGauge
      ? { gpuMemory: () => gauge.memoryInUse() }
      : { gauge: () => gauge.measure() }),
  };
}

/** Says on stderr what is being measured, now and then while it takes long. */
function statusLine(io: Io, intervalMs = 5000): (description: string) => void {
  let last = performance.now();
  return (description) => {
    if (performance.now() - last < intervalMs) return;
    last = performance.now();
    io.stderr.write(`${description}\n`);
  };
}

function crossover(setting: Setting, samples: readonly Samples[]) {
  const json = crossoverReport(setting, samples);
  return { json, text: describeCrossover(json) };
}

function full(
  setting: Setting & { dtype: DType },
  loadSeconds: readonly number[],
  loadedBytes: number | undefined,
  samples: readonly Samples[],
  plan: Plan,
  { weights: stored, work: use }: ModelWeights,
) {
  const read = setting.machine.gpu ? stored.map((weight) => onGpu(weight, setting.dtype)) : stored;
  const weights = weightWork(read, use);
  const work = {
    decodedBytes: (experts: number) => bytesPerDecodedToken(weights, experts),
    prefillFlops: new Map(
      plan.prompts.map((tokens): [number, number] => [tokens, prefillFlops(tokens, weights)]),
    ),
    ...(loadedBytes !== undefined && { loadedBytes }),
  };
  const json = benchReport(setting, loadSeconds, work, samples);
  return { json, text: describeBench(json) };
}

type Weight = ModelWeights['weights'][number];

/** A weight as a GPU holds it: in the dtype of the computation, whatever the files have, unless it is kept as codes. */
function onGpu(weight: Weight, dtype: DType): Weight {
  const elements = weight.shape.reduce((a, b) => a * b, 1);
  return { ...weight, byteLength: weight.gpuBytes ?? elements * ELEMENT_TYPES[dtype].bytes };
}
