/** Times a loaded model through the interface generation uses. Its generation_config.json has no say here. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Decoding, Generator } from '../generation/types.ts';
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

/** Measurements of one candidate, an entry a run. */
export interface Samples {
  readonly name: string;
  /** By prompt length. */
  readonly prefill: ReadonlyMap<number, PrefillTimes>;
  /** Median milliseconds from one token to the next. */
  readonly decode: number[];
  /** After decoding. */
  readonly memory: MemoryUse[];
}

/** Measures every candidate in every run, next to each other, so that a machine that slows down slows all alike. */
export async function measure(generator: Generator, plan: Plan): Promise<Samples[]> {
  const ids = new RandomIds(generator.vocabSize, SEED);
  const samples = plan.candidates.map(({ name }) => ({
    name,
    prefill: new Map(plan.prompts.map((tokens): [number, PrefillTimes] => [tokens, { warm: [], cold: [] }])),
    decode: [] as number[],
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
          await sleep(REST_MS, undefined, { signal: plan.signal });
          times.cold.push(await stopwatch.prefill([ids.take(tokens)], experts));
        }
        const warm: number[] = [];
        for (const prompt of prompts) warm.push(await stopwatch.prefill([prompt], experts));
        times.warm.push(median(warm));
      });
    }
    if (plan.newTokens === 0) continue;
    await plan.gauge?.();
    const prompt = ids.take(DECODE_PROMPT);
    await each(async ({ name, experts }, { decode, memory }) => {
      step(`${name}, ${plan.newTokens} new tokens`);
      decode.push(median(await stopwatch.decode(prompt, plan.newTokens, experts)));
      memory.push({ ...memoryUse(), ...(plan.gpuMemory && { gpu: plan.gpuMemory() }) });
    });
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
  for (const { experts } of candidates) await stopwatch.decode(ids.take(2), 1, experts);
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
    return this.#decoding(prompts, 0, experts, async (decoding) => {
      const started = performance.now();
      await decoding.prefill(1, this.#signal);
      return performance.now() - started;
    });
  }

  /** Milliseconds from each token to the next; the first token, which the prompt gives, begins the first interval. */
  decode(prompt: readonly number[], count: number, experts: Candidate['experts']): Promise<number[]> {
    return this.#decoding([prompt], count, experts, async (decoding) => {
      const intervals: number[] = [];
      let { top } = await decoding.prefill(1, this.#signal);
      for (let i = 0; i < count; i++) {
        const started = performance.now();
        ({ top } = await decoding.step([0], [[top.ids[0] as number]], 1, this.#signal));
        intervals.push(performance.now() - started);
      }
      return intervals;
    });
  }

  async #decoding<T>(
    prompts: readonly (readonly number[])[],
    newTokens: number,
    expertsImplementation: Candidate['experts'],
    use: (decoding: Decoding) => Promise<T>,
  ): Promise<T> {
    this.#signal?.throwIfAborted();
    const decoding = await this.#generator.openDecoding({
      prompts: prompts.map((ids) => ({ ids })),
      newTokens,
      expertsImplementation,
    });
    try {
      return await use(decoding);
    } finally {
      decoding.dispose();
    }
  }
}
