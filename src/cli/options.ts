import { type Command, InvalidArgumentError, Option } from 'commander';
import { WEIGHT_PAGES } from '../auto/weight-pages.ts';
import { DTYPES, didYouMeanDType } from '../dtype.ts';
import { didYouMean, EngineError, type InputError, show } from '../errors.ts';
import { ExpertsInterface, type LoadOptions, parseQuantization, type Quantization } from '../index.ts';
import { type CompileMode, checkCompileMode } from '../model/compile.ts';
import { checkDevice, DEVICES, type Device, isDevice, parseMemory } from '../runtime/choose-device.ts';
import { UsageError } from './io.ts';

/** Lines of a help page: what one may type, and what that is. */
export function examples(...lines: readonly (readonly [command: string, note: string])[]): string {
  const shown = lines.map(([command, note]) => (note === '' ? `  ${command}` : `  ${command}   # ${note}`));
  return ['', lines.length === 1 ? 'Example:' : 'Examples:', ...shown].join('\n');
}

/** Parser of a whole number within bounds. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    throw new InvalidArgumentError(`It must be a whole number ${range}.`);
  };
}

/** Parser of a number within bounds. */
export function decimal(bounds: { least?: number; above?: number; most?: number }): (text: string) => number {
  const {
    least = Number.NEGATIVE_INFINITY,
    above = Number.NEGATIVE_INFINITY,
    most = Number.POSITIVE_INFINITY,
  } = bounds;
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (Number.isFinite(value) && value >= least && value > above && value <= most) return value;
    const words = Object.entries(bounds).map(([bound, limit]) => `${BOUND_IN_WORDS[bound]} ${limit}`);
    throw new InvalidArgumentError(`It must be a number ${words.join(' and ')}.`);
  };
}

const BOUND_IN_WORDS: Record<string, string> = { least: 'of at least', above: 'above', most: 'at most' };

/** Parser of a device. */
export function device(text: string): Device {
  if (isDevice(text)) return text;
  throw new InvalidArgumentError(`Allowed choices are ${DEVICES}.`);
}

/** Parser of what weights are rounded to. */
export function quantization(text: string): Quantization {
  return parsing(() => parseQuantization(text));
}

const COMPUTE_DTYPES: readonly string[] = ['auto', ...DTYPES];

/** Parser of a precision. */
function dtype(text: string): NonNullable<LoadOptions['dtype']> {
  if (COMPUTE_DTYPES.includes(text)) return text as NonNullable<LoadOptions['dtype']>;
  throw new InvalidArgumentError(
    `Allowed choices are ${COMPUTE_DTYPES.join(', ')}${didYouMeanDType(text) || '.'}`,
  );
}

/** Parser of bytes of memory. */
export function memorySize(text: string): number {
  return parsing(() => parseMemory(text, 'memory'));
}

/** What the library says of a value is said of the command line. */
function parsing<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new InvalidArgumentError((error as InputError).message);
  }
}

/** What {@link addComputeOptions} reads. */
export interface ComputeFlags {
  dtype?: NonNullable<LoadOptions['dtype']>;
  device?: Device;
  maxMemory?: number;
  maxCache?: number;
  pinExperts?: string;
  pinMemory?: number;
  quantize?: Quantization;
  int8Activations?: boolean;
  weights?: NonNullable<LoadOptions['weights']>;
  compile?: CompileMode | true;
  /** False with `--no-decode-with-batched-mm`. */
  decodeWithBatchedMm?: boolean;
  threads?: number;
}

/** Adds the options of how and where a model computes, alike in every command that runs one. */
export function addComputeOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--dtype <dtype>', 'precision of the computation').choices(COMPUTE_DTYPES).argParser(dtype),
    )
    .option(
      '--quantize <spec>',
      'round the weights at load: int8, int4, int4-asymmetric, or experts=int4,attention=int8,head=int8,group-size=32',
      quantization,
    )
    .option(
      '--int8-activations',
      'with weights of whole numbers: round what they meet to int8, too (default but for float32)',
    )
    .option('--no-int8-activations', 'compute with activations as they are')
    .option('--device <device>', 'where to compute: cpu (default), cuda, cuda:N or auto', device)
    .option(
      '--compile [mode]',
      'measure or record ahead: default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs',
      compileMode,
    )
    .option('--no-decode-with-batched-mm', 'on a GPU, keep grouped_mm for decoding too')
    .option(
      '--max-memory <size>',
      'most memory for weights, such as 20GB, on a GPU or the CPU; other experts are fetched as they are chosen',
      memorySize,
    )
    .option(
      '--max-cache <size>',
      'most memory for the cache, such as 2GB; where it is met, the youngest requests wait',
      memorySize,
    )
    .option(
      '--pin-experts <file>',
      'keep the experts at hand that a file of generate --routing needs most; on a GPU with --max-memory',
    )
    .option(
      '--pin-memory <size>',
      'most memory for these, such as 8GB (default: half of what is free)',
      memorySize,
    )
    .addOption(
      new Option('--weights <where>', 'mapped (default), or packed: a copy in large pages of memory').choices(
        WEIGHT_PAGES,
      ),
    )
    .option('--threads <n>', 'threads to compute with', integer(1, 1024));
}

function activationQuantization(int8Activations: boolean | undefined) {
  if (int8Activations === undefined) return undefined;
  return int8Activations ? ('int8' as const) : ('none' as const);
}

/** Those options of `fromPretrained`. */
export function computeOptions(flags: ComputeFlags) {
  const { dtype, device, maxMemory, decodeWithBatchedMm, threads, quantize, int8Activations } = flags;
  const { pinExperts: file, pinMemory: maxBytes } = flags;
  if (maxBytes !== undefined && file === undefined)
    throw new UsageError('--pin-memory bounds what --pin-experts keeps at hand; name its file, too');
  return given({
    ...(file !== undefined && { pinnedExperts: { file, ...given({ maxBytes }) } }),
    ...{
      weights: flags.weights,
      dtype,
      device,
      maxMemory,
      decodeWithBatchedMm,
      threads,
      quantization: quantize,
    },
    maxCacheBytes: flags.maxCache,
    activationQuantization: activationQuantization(int8Activations),
  });
}

/** The members that have a value: for the library, undefined is a value like any other. */
export function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** Refuses a device that models cannot run on. @throws UsageError that says what this machine lacks */
export async function requireDevice(asked: Device | undefined): Promise<void> {
  try {
    await checkDevice(asked);
  } catch (error) {
    throw error instanceof EngineError ? new UsageError(error.message, { cause: error }) : error;
  }
}

/** Parser of a mode of `compile`. */
function compileMode(text: string): CompileMode {
  return parsing(() => checkCompileMode(text));
}

/** Parser of an option that may be repeated. */
export function strings(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** Parser of `1,2,3`; each further use of the option adds a row to the batch. */
export function tokenIds(text: string, rows: number[][] = []): number[][] {
  const parts = text.split(',').map((part) => part.trim());
  if (!parts.every((part) => /^\d+$/.test(part) && Number.isSafeInteger(Number(part)))) {
    throw new InvalidArgumentError('It must be token ids separated by commas, such as 1,2,3.');
  }
  return [...rows, parts.map(Number)];
}

/** Parser of `name` or `key=name,key=name`; an empty key speaks for the whole model. */
export function experts(spec: string): string | Record<string, string> {
  if (!spec.includes('=')) return backend(spec.trim());
  const map = new Map<string, string>();
  for (const pair of spec.split(',')) {
    const [key, name, ...rest] = pair.split('=').map((part) => part.trim());
    if (key === undefined || name === undefined || rest.length > 0) {
      throw new InvalidArgumentError(`${show(pair)} is not of the form key=name.`);
    }
    if (map.has(key)) throw new InvalidArgumentError(`The key ${show(key)} occurs twice.`);
    map.set(key, backend(name));
  }
  return Object.fromEntries(map);
}

/** Parser of `a,b` or `all`. */
export function backends(text: string): readonly string[] | 'all' {
  return text === 'all' ? text : text.split(',').map((name) => backend(name.trim()));
}

function backend(name: string): string {
  const names = ExpertsInterface.choices();
  if (names.includes(name)) return name;
  throw new InvalidArgumentError(
    `Unknown experts implementation ${show(name)}. Known are: ${names.join(', ')}${didYouMean(name, names)}`,
  );
}
