/** Times a loaded model through the interface generation uses. Its generation_config.json has no say here. */
import { setTimeout as sleep } from 'node:timers/promises';
import { abortable, abortIf } from '../errors.ts';
import type { Decoding, Generator, RowRouting } from '../generation/types.ts';
import { type MemoryUse, memoryUse } from './memory.ts';
import { RandomIds } from './random-ids.ts';
import { median } from './statistics.ts';

/** Length of the prompt that decoding continues. */
export const DECODE_PROMPT = 16;
const SEED = 20240229;
/** Before a cold pass: threads sleep and caches are cold after it, as between a user's questions. */
const REST_MS = 500;
/** Prompts this short take so little time that two passes say nothing. */
const STEADY_TOKENS = 64;
const LEAST_PASSES = 2;
const MOST_PASSES = 8;
/** What is aborted, in messages. */
const MEASURING = 'the measurement';
const WARM_UP = { tokens: 512, batches: 8, rows: 32 };

/** A setting of the experts to measure, and what to call it. */
export interface Candidate {
  readonly name: string;
  /** Value of `expertsImplementation`. */
  readonly experts: string | Readonly<Record<string, string>>;
}

export interface Plan {
  readonly candidates: readonly Candidate[];
  /** Prompt lengths. */
  readonly prompts: readonly number[];
  /** Tokens to decode; 0 leaves decoding out. */
  readonly newTokens: number;
  /** Numbers of requests that decode at a time. */
  readonly requests: readonly number[];
  /** Whether the model has experts, of which requests share some. */
  readonly routed: boolean;
  readonly runs: number;
  /** Also times a pass after a rest, for each prompt length. */
  readonly cold: boolean;
  readonly signal?: AbortSignal;
  /** Told what comes next. */
  readonly onStep?: (description: string) => void;
  /** Measures the machine; called in every run before prefill and before decoding. */
  readonly gauge?: () => Promise<void>;
  /** Bytes in use on the GPU that computes. */
  readonly gpuMemory?: () => number;
}

/** Milliseconds of a pass, an entry a run. */
export interface PrefillTimes {
  /** Median of passes in a row. */
  readonly warm: number[];
  /** The first after a rest; empty unless asked for. */
  readonly cold: number[];
}

/** Decoding by some requests at a time, an entry a run. */
export interface DecodeTimes {
  /** Median milliseconds from one token of a request to its next. */
  readonly ms: number[];
  /** Experts that a step reads, in multiples of those of one token. */
  readonly expertsRead: number[];
}

/** Measurements of one candidate, an entry a run. */
export interface Samples {
  readonly name: string;
  /** By prompt length. */
  readonly prefill: ReadonlyMap<number, PrefillTimes>;
  /** By requests at a time. */
  readonly decode: ReadonlyMap<number, DecodeTimes>;
  /** After decoding. */
  readonly memory: MemoryUse[];
}

/**
 * Measures every candidate in every run, next to each other, so that a machine that slows down slows all alike.
 * @throws AbortError
 */
export async function measure(generator: Generator, plan: Plan): Promise<Samples[]> {
  const ids = new RandomIds(generator.vocabSize, SEED);
  const samples = plan.candidates.map(({ name }) => ({
    name,
    prefill: new Map(plan.prompts.map((tokens): [number, PrefillTimes] => [tokens, { warm: [], cold: [] }])),
    decode: new Map(
      plan.requests.map((requests): [number, DecodeTimes] => [requests, { ms: [], expertsRead: [] }]),
    ),
    memory: [] as MemoryUse[],
  }));
  const stopwatch = new Stopwatch(generator, plan.signal);
  const each = async (step: (candidate: Candidate, sample: (typeof samples)[number]) => Promise<unknown>) => {
    for (const [i, candidate] of plan.candidates.entries())
      await step(candidate, samples[i] as (typeof samples)[number]);
  };
  await warmUp(stopwatch, generator, plan, ids);
  for (let run = 1; run <= plan.runs; run++) {
    const step = (what: string) => plan.onStep?.(`run ${run} of ${plan.runs}: ${what}`);
    await plan.gauge?.();
    for (const tokens of plan.prompts) {
      const prompts = Array.from({ length: passes(tokens) }, () => ids.take(tokens));
      await each(async ({ name, experts }, { prefill }) => {
        step(`${name}, prefill of ${tokens} tokens`);
        const times = prefill.get(tokens) as PrefillTimes;
        if (plan.cold) {
          await rest(plan.signal);
          times.cold.push(await stopwatch.prefill([ids.take(tokens)], experts));
        }
        const warm: number[] = [];
        for (const prompt of prompts) warm.push(await stopwatch.prefill([prompt], experts));
        times.warm.push(median(warm));
      });
    }
    if (plan.newTokens === 0) continue;
    await plan.gauge?.();
    for (const requests of plan.requests) {
      const prompts = Array.from({ length: requests }, () => ids.take(DECODE_PROMPT));
      let expertsRead = 1;
      if (plan.routed && requests > 1) {
        step(`experts that ${requests} requests go to`);
        expertsRead = await stopwatch.expertsRead(prompts, plan.newTokens);
      }
      await each(async ({ name, experts }, { decode, memory }) => {
        step(`${name}, ${plan.newTokens} new tokens of ${requests} requests`);
        const times = decode.get(requests) as DecodeTimes;
        times.ms.push(median(await stopwatch.decode(prompts, plan.newTokens, experts)));
        times.expertsRead.push(expertsRead);
        memory.push({ ...memoryUse(), ...(plan.gpuMemory && { gpu: plan.gpuMemory() }) });
      });
    }
  }
  return samples;
}

/**
 * Lets every backend allocate what it needs, after prompts that reach all experts: mapped weights cost a page fault for
 * each page touched first, which belongs to loading. The last layer sees only the last token of a prompt, so there are
 * many short prompts besides a long one.
 */
async function warmUp(
  stopwatch: Stopwatch,
  generator: Generator,
  { candidates, prompts, onStep }: Plan,
  ids: RandomIds,
): Promise<void> {
  onStep?.('warming up');
  const longest = Math.min(generator.contextLength, Math.max(WARM_UP.tokens, ...prompts));
  const [first] = candidates;
  if (first) {
    await stopwatch.prefill([ids.take(longest)], first.experts);
    for (let batch = 0; batch < WARM_UP.batches; batch++) {
      const rows = Array.from({ length: WARM_UP.rows }, () => ids.take(2));
      await stopwatch.prefill(rows, first.experts);
    }
  }
  for (const { experts } of candidates) await stopwatch.decode([ids.take(2)], 1, experts);
}

/** @throws AbortError */
async function rest(signal: AbortSignal | undefined): Promise<void> {
  await abortable(signal, MEASURING, () => sleep(REST_MS, undefined, { signal }));
}

function passes(tokens: number): number {
  return Math.min(MOST_PASSES, Math.max(LEAST_PASSES, Math.floor(STEADY_TOKENS / tokens)));
}

/** Runs single prompts and reads the clock. */
class Stopwatch {
  readonly #generator: Generator;
  readonly #signal: AbortSignal | undefined;

  constructor(generator: Generator, signal: AbortSignal | undefined) {
    this.#generator = generator;
    this.#signal = signal;
  }

  /** Milliseconds from prompts of one length to the first new token. */
  prefill(prompts: readonly (readonly number[])[], experts: Candidate['experts']): Promise<number> {
    return this.#open([{ prompts, newTokens: 0, experts }], async ([decoding]) => {
      const started = performance.now();
      await decoding.prefill(1, this.#signal);
      return performance.now() - started;
    });
  }

  /**
   * Milliseconds from each token of each of some requests at a time to its next; the first token, which the prompt gives, begins the first
   * interval.
   */
  async decode(
    prompts: readonly (readonly number[])[],
    newTokens: number,
    experts: Candidate['experts'],
  ): Promise<number[]> {
    const requests = prompts.map((prompt) => ({ prompts: [prompt], newTokens, experts }));
    return this.#open(requests, async (decodings) => {
      // All prompts first: none is to share a pass with another request's token.
      const scores = await Promise.all(decodings.map((decoding) => decoding.prefill(1, this.#signal)));
      const first = scores.map(({ top }) => top.ids[0] as number);
      const intervals = await Promise.all(
        decodings.map((decoding, i) => this.#steps(decoding, first[i] as number, newTokens)),
      );
      return intervals.flat();
    });
  }

  async #steps(decoding: Decoding, first: number, count: number): Promise<number[]> {
    const intervals: number[] = [];
    for (let token = first; intervals.length < count; ) {
      const started = performance.now();
      const { top } = await decoding.step([0], [[token]], 1, this.#signal);
      intervals.push(performance.now() - started);
      token = top.ids[0] as number;
    }
    return intervals;
  }

  /** How many experts a step reads that decodes a token of every prompt, in multiples of those of one token. */
  expertsRead(prompts: readonly (readonly number[])[], newTokens: number): Promise<number> {
    return this.#open([{ prompts, newTokens, returnRoutedExperts: true }], async ([decoding]) => {
      const rows = prompts.map((_, row) => row);
      let { top } = await decoding.prefill(1, this.#signal);
      for (let i = 0; i < newTokens; i++) {
        const tokens = rows.map((row) => [top.ids[row * top.count] as number]);
        ({ top } = await decoding.step(rows, tokens, 1, this.#signal));
      }
      const routing = (row: number) => decoding.routing?.(row, DECODE_PROMPT + newTokens) as RowRouting;
      return multiplesRead(rows.map(routing), DECODE_PROMPT);
    });
  }

  /** Opens requests, and closes them after use. */
  async #open<T>(
    requests: readonly {
      readonly prompts: readonly (readonly number[])[];
      readonly newTokens: number;
      readonly experts?: Candidate['experts'];
      readonly returnRoutedExperts?: boolean;
    }[],
    use: (decodings: [Decoding, ...Decoding[]]) => Promise<T>,
  ): Promise<T> {
    abortIf(this.#signal, MEASURING);
    const decodings: Decoding[] = [];
    try {
      for (const { prompts, experts: expertsImplementation, ...request } of requests) {
        const rows = prompts.map((ids) => ({ ids }));
        decodings.push(
          await this.#generator.openDecoding({ ...request, prompts: rows, expertsImplementation }),
        );
      }
      return await use(decodings as [Decoding, ...Decoding[]]);
    } finally {
      for (const decoding of decodings) decoding.dispose();
    }
  }
}

/**
 * Distinct experts of a layer in a pass over one token of each row, on average, by the experts of one token.
 * @param from first token that was fed to decode
 */
function multiplesRead(routings: readonly RowRouting[], from: number): number {
  const { layers, perToken, experts } = routings[0] as RowRouting;
  const width = layers.length * perToken;
  let distinct = 0;
  for (let at = from * width; at < experts.length; at += perToken)
    distinct += new Set(routings.flatMap((row) => [...row.experts.subarray(at, at + perToken)])).size;
  return distinct / (experts.length - from * width);
}
