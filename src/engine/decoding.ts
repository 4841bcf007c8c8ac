import type { Decoding, Scores, TopLogits } from '../generation/types.ts';
import * as io from '../models/io.ts';
import type { KvCache } from './cache/kv-cache.ts';
import { LogitsBuffer } from './logits-buffer.ts';
import { prefill, step } from './prefill.ts';
import type { DecoderRuntime } from './runner.ts';
import type { Prompt } from './sequence.ts';
import type { BackendReader } from './tuning/policy.ts';

/** A batch of prompts being decoded: its cache, its logits, and how far each row has come. */
export class DecoderDecoding implements Decoding {
  readonly expertsCalls: Record<string, number> = {};
  readonly #runtime: DecoderRuntime;
  readonly #prompts: readonly Prompt[];
  readonly #lengths: number[];
  readonly #cache: KvCache;
  #logits: LogitsBuffer | undefined;
  readonly #experts: BackendReader;

  /** @param maxLength bound on prompt + new tokens of a row */
  constructor(
    runtime: DecoderRuntime,
    prompts: readonly Prompt[],
    maxLength: number,
    experts: BackendReader,
  ) {
    this.#runtime = runtime;
    this.#prompts = prompts;
    this.#lengths = prompts.map(({ ids }) => ids.length);
    this.#cache = runtime.openCache(prompts.length, maxLength);
    this.#experts = experts;
  }

  async prefill(candidates: number, signal?: AbortSignal): Promise<Scores> {
    const { model, weights } = this.#runtime;
    const buffer = await LogitsBuffer.open(this.#prompts.length, model.vocabSize, weights);
    this.#logits = buffer;
    const values = new Float32Array(this.#prompts.length * candidates);
    const ids = new Int32Array(this.#prompts.length * candidates);
    const request = {
      head: 'logits' as const,
      intermediates: false,
      prompts: this.#prompts,
      cache: this.#cache,
      experts: this.#experts,
      wanted: (row: number, token: number) => token === (this.#lengths[row] as number) - 1,
      candidates,
      logits: (rows: readonly number[]) => buffer.rowsFrom(rows[0], rows.length),
    };
    for await (const { outputs, logitsOf, expertsCalls } of prefill(this.#runtime, request, signal)) {
      this.#count(expertsCalls);
      const [first] = logitsOf;
      if (candidates === 0 || !first) continue;
      values.set(outputs[io.CANDIDATE_LOGITS.name]?.data as Float32Array, first.row * candidates);
      ids.set(outputs[io.CANDIDATE_IDS.name]?.data as Int32Array, first.row * candidates);
    }
    return this.#scores({ count: candidates, values, ids });
  }

  async step(tokens: readonly number[], candidates: number, signal?: AbortSignal): Promise<Scores> {
    const request = {
      prompts: this.#prompts,
      tokens,
      lengths: this.#lengths,
      cache: this.#cache,
      experts: this.#experts({ tokens: tokens.length, phase: 'decode' }),
      candidates,
      logits: (this.#logits as LogitsBuffer).all,
    };
    const { outputs, expertsCalls } = await step(this.#runtime, request, signal);
    for (const [row, length] of this.#lengths.entries()) this.#lengths[row] = length + 1;
    this.#count(expertsCalls);
    return this.#scores({
      count: candidates,
      values: (outputs[io.CANDIDATE_LOGITS.name]?.data ?? NO_VALUES) as Float32Array,
      ids: (outputs[io.CANDIDATE_IDS.name]?.data ?? NO_IDS) as Int32Array,
    });
  }

  dispose(): void {
    this.#cache.dispose();
    this.#logits?.dispose();
  }

  #scores(top: TopLogits): Scores {
    return { top, logits: () => (this.#logits as LogitsBuffer).read() };
  }

  #count(calls: Readonly<Record<string, number>>): void {
    for (const [name, count] of Object.entries(calls))
      this.expertsCalls[name] = (this.expertsCalls[name] ?? 0) + count;
  }
}

const NO_VALUES = new Float32Array(0);
const NO_IDS = new Int32Array(0);
