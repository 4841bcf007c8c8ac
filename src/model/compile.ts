/** `model.compile`: what is measured and recorded ahead. */

import { DecoderDecoding } from '../engine/decoding.ts';
import type { Engine } from '../engine/engine.ts';
import {
  type AutotuneOptions,
  autotune,
  TOKEN_COUNTS,
  type TuningProgress,
} from '../engine/tuning/measure.ts';
import type { BuiltInBackend, TuningTable } from '../engine/tuning/policy.ts';
import { readTuning, type TuningKey, writeTuning } from '../engine/tuning/store.ts';
import { abortIf, didYouMean, expected, InputError } from '../errors.ts';
import { isRoutedExpert } from '../models/architecture.ts';
import { engineVersion } from '../runtime/binding.ts';
import { cpuInfo, cpuModel } from '../runtime/machine.ts';
import { version } from '../runtime/package-root.ts';
import { defaultThreads } from '../runtime/threads.ts';
import type { ModelParts } from './model-parts.ts';

/** Counterparts of the modes of `torch.compile`. */
const COMPILE_MODES = ['default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs'] as const;
export type CompileMode = (typeof COMPILE_MODES)[number];

export interface CompileOptions {
  /** Default `default`. */
  mode?: CompileMode;
  /** Ends measuring with an `AbortError`; the mode stays as it was. */
  signal?: AbortSignal;
  /** With `max-autotune`: token counts to measure, up to the context; default 1 to 512 by powers of two. */
  tokenCounts?: readonly number[];
  /** Told how far measuring is; never, where nothing need be measured. */
  onProgress?: (progress: TuningProgress) => void;
}

export const COMPILE_OPTIONS = [
  'mode',
  'signal',
  'tokenCounts',
  'onProgress',
] as const satisfies readonly (keyof CompileOptions)[];

/** Options of `measureExperts`. */
export type MeasureOptions = Pick<CompileOptions, 'signal' | 'onProgress'>;

export const MEASURE_OPTIONS = ['signal', 'onProgress'] as const satisfies readonly (keyof MeasureOptions)[];

/** What autotuning found. */
export interface Tuning {
  readonly table: TuningTable;
  /** Whether it was measured now or read from the cache. */
  readonly source: 'measured' | 'cache';
  /** Token counts it was to cover, ascending. */
  readonly tokenCounts: readonly number[];
}

/** @throws InputError for what is no mode, with the list of modes */
export function checkCompileMode(mode: unknown): CompileMode {
  if ((COMPILE_MODES as readonly unknown[]).includes(mode)) return mode as CompileMode;
  throw new InputError(
    expected('mode', mode, `one of ${COMPILE_MODES.join(', ')}${didYouMean(mode, COMPILE_MODES)}`),
  );
}

/** Whether a mode replays decode steps as CUDA graphs, where there is a GPU. */
export const usesGraphs = (mode: CompileMode) => mode === 'reduce-overhead' || mode === 'max-autotune';

/** Whether a mode measures the backends. */
export const isTuned = (mode: CompileMode) => mode.startsWith('max-autotune');

/**
 * The table of a model on this machine: the one in force, else from the cache, else measured and kept.
 * @param tokenCounts checked with {@link checkTokenCounts}
 */
export async function tune(
  parts: ModelParts,
  tokenCounts: readonly number[],
  inForce: Tuning | undefined,
  { signal, onProgress }: MeasureOptions,
): Promise<Tuning> {
  if (inForce?.tokenCounts.join() === tokenCounts.join()) return inForce;
  const key = tuningKey(parts, tokenCounts);
  const cached = await readTuning(key, parts.warn);
  if (cached) return { table: cached, source: 'cache', tokenCounts };
  const table = await measure(parts, { counts: tokenCounts, signal, onProgress });
  await writeTuning(key, table, parts.warn);
  return { table, source: 'measured', tokenCounts };
}

/** About how long some counts are measured again, while a call waits. */
const RETUNE_SECONDS = 5;

/** A table of which some counts were measured again, and kept. */
export async function retune(
  parts: ModelParts,
  { table: before, tokenCounts }: Tuning,
  counts: readonly number[],
): Promise<Tuning> {
  const fresh = await measure(parts, { counts, seconds: RETUNE_SECONDS });
  const table = before.map((entry) => fresh.find(({ tokens }) => tokens === entry.tokens) ?? entry);
  await writeTuning(tuningKey(parts, tokenCounts), table, parts.warn);
  return { table, source: 'measured', tokenCounts };
}

async function measure({ engine }: ModelParts, options: AutotuneOptions): Promise<TuningTable> {
  const run = (tokens: number, backend: BuiltInBackend) => runPass(engine, tokens, backend, options.signal);
  try {
    return await autotune(run, options);
  } finally {
    // What was measured says nothing of what was measured.
    engine.passTimes.clear();
  }
}

/** One prompt of random ids, up to the last token's logits. */
async function runPass(
  engine: Engine,
  tokens: number,
  backend: BuiltInBackend,
  signal: AbortSignal | undefined,
): Promise<void> {
  abortIf(signal, 'compile');
  const { vocabSize } = engine.model;
  const ids = Array.from({ length: tokens }, () => Math.floor(Math.random() * vocabSize));
  const decoding = new DecoderDecoding(engine, [{ ids }], 0, {
    requested: () => backend,
    choose: () => backend,
  });
  try {
    await decoding.prefill(1, signal);
  } finally {
    decoding.dispose();
  }
}

/** How the routed experts are stored, and what meets them: two checkpoints of one geometry may differ in it. */
function storageOfExperts({ engine, model, weights }: ModelParts): string {
  const experts = weights.filter(({ name }) => isRoutedExpert(model.work.use(name)));
  const storages = [...new Set(experts.map(({ storage }) => storage))].sort();
  return [...storages, ...(engine.int8Activations ? ['int8 activations'] : [])].join(', ');
}

/** Everything that a measurement depends on. */
function tuningKey(parts: ModelParts, counts: readonly number[]): TuningKey {
  const { engine, model, dtype, threads, maxMemory = 0 } = parts;
  const { weights } = engine;
  const info = weights?.device.info;
  const device = info
    ? `${info.name}, compute capability ${info.major}.${info.minor}`
    : `${cpuModel()}, ${cpuInfo().isa}`;
  return {
    ...{ model: model.modelType, dtype, device, maxMemory },
    threads: info ? 0 : (threads ?? defaultThreads()),
    storage: storageOfExperts(parts),
    ...model.geometry,
    ...{ engine: engineVersion(), switchyard: version() },
    counts: counts.join(),
  };
}

/**
 * The counts to measure, ascending, each once, up to the context.
 * @throws InputError for what is no list of counts, and where all are beyond the context
 */
export function checkTokenCounts(
  counts: CompileOptions['tokenCounts'] = TOKEN_COUNTS,
  contextLength: number,
): readonly number[] {
  const isValid =
    Array.isArray(counts) && counts.length > 0 && counts.every((n) => Number.isInteger(n) && n > 0);
  if (!isValid) throw new InputError(expected('tokenCounts', counts, 'a list of whole numbers above 0'));
  const possible = [...new Set(counts)].filter((n) => n <= contextLength).sort((a, b) => a - b);
  if (possible.length > 0) return possible;
  throw new InputError(
    expected('tokenCounts', counts, `at least one within the context of ${contextLength}`),
  );
}
