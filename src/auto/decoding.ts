import type { Decoding } from '../generation/types.ts';
import type { Tensor } from '../runtime/ort.ts';
import { prefill, step } from './batch.ts';
import type { DecoderRuntime } from './decoder-runtime.ts';
import { KvCache } from './kv-cache.ts';
import type { Prompt } from './prompt.ts';

/** A batch of prompts being decoded: its cache, and how far each row has come. */
export class DecoderDecoding implements Decoding {
  readonly expertsCalls: Record<string, number> = {};
  readonly #runtime: DecoderRuntime;
  readonly #prompts: readonly Prompt[];
  readonly #lengths: number[];
  readonly #cache: KvCache;
  readonly #experts: () => string;

  /** @param maxLength bound on prompt + new tokens of a row */
  constructor(runtime: DecoderRuntime, prompts: readonly Prompt[], maxLength: number, experts: () => string) {
    this.#runtime = runtime;
    this.#prompts = prompts;
    this.#lengths = prompts.map(({ ids }) => ids.length);
    this.#cache = new KvCache(prompts.length, runtime.cacheShape, maxLength);
    this.#experts = experts;
  }

  async prefill(signal?: AbortSignal): Promise<Float32Array> {
    const vocab = this.#runtime.config.vocab_size;
    const last = new Float32Array(this.#prompts.length * vocab);
    const request = {
      head: 'logits' as const,
      intermediates: false,
      prompts: this.#prompts,
      cache: this.#cache,
      experts: this.#experts,
      wanted: (row: number, token: number) => token === (this.#lengths[row] as number) - 1,
    };
    for await (const { outputs, logitsOf, expertsCalls } of prefill(this.#runtime, request, signal)) {
      const logits = outputs.logits?.data as Float32Array;
      for (const [i, { row }] of logitsOf.entries())
        last.set(logits.subarray(i * vocab, (i + 1) * vocab), row * vocab);
      this.#count(expertsCalls);
    }
    return last;
  }

  async step(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const request = {
      prompts: this.#prompts,
      tokens,
      lengths: this.#lengths,
      cache: this.#cache,
      experts: this.#experts(),
    };
    const { outputs, expertsCalls } = await step(this.#runtime, request, signal);
    for (const [row, length] of this.#lengths.entries()) this.#lengths[row] = length + 1;
    this.#count(expertsCalls);
    return (outputs.logits as Tensor).data as Float32Array;
  }

  dispose(): void {
    this.#cache.dispose();
  }

  #count(calls: Readonly<Record<string, number>>): void {
    for (const [name, count] of Object.entries(calls))
      this.expertsCalls[name] = (this.expertsCalls[name] ?? 0) + count;
  }
}
