import type { Decoding, DecodingRequest, Generator } from '../../src/generation/types.ts';

export interface LookupModelOptions {
  contextLength?: number;
  /** Takes each step's time: awaited before it answers. */
  pause?: () => Promise<unknown>;
}

/**
 * A small real language model: logits follow from the last two tokens of a row through a fixed mixing function, with
 * padding ignored. It keeps what it was asked, and checks that it is used as promised.
 */
export class LookupModel implements Generator {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly requests: DecodingRequest[] = [];
  /** Tokens of each step, of all decodings. */
  readonly steps: number[][] = [];
  open = 0;
  readonly #pause: (() => Promise<unknown>) | undefined;

  constructor(vocabSize: number, options: LookupModelOptions = {}) {
    this.vocabSize = vocabSize;
    this.contextLength = options.contextLength ?? 4096;
    this.#pause = options.pause;
  }

  /** Logits after `previous`, `last`. */
  row(previous: number, last: number): Float32Array {
    return Float32Array.from({ length: this.vocabSize }, (_, id) => {
      const mixed = Math.imul(previous * 31 + last * 1009 + id * 7919 + 17, 0x9e3779b1) >>> 0;
      return (mixed / 2 ** 32) * 6 - 3;
    });
  }

  /** The likeliest continuation of a prompt, for comparison. */
  greedy(prompt: readonly number[], count: number): number[] {
    const tokens = [...prompt];
    for (let i = 0; i < count; i++) {
      const scores = this.row(tokens.at(-2) ?? 0, tokens.at(-1) as number);
      tokens.push(scores.indexOf(Math.max(...scores)));
    }
    return tokens.slice(prompt.length);
  }

  async openDecoding(request: DecodingRequest): Promise<Decoding> {
    this.requests.push(request);
    this.open++;
    const rows = request.inputIds.map((ids, r) => ids.filter((_, i) => request.attentionMask[r]?.[i] === 1));
    let length = (request.inputIds[0] as readonly number[]).length;
    let calls = 0;
    let disposed = false;
    const answer = async (signal: AbortSignal | undefined): Promise<Float32Array> => {
      if (disposed) throw new Error('used after dispose');
      if (length > request.maxLength) throw new Error('cache overrun');
      await this.#pause?.();
      signal?.throwIfAborted();
      calls++;
      const logits = new Float32Array(rows.length * this.vocabSize);
      rows.forEach((row, r) => {
        logits.set(this.row(row.at(-2) ?? 0, row.at(-1) as number), r * this.vocabSize);
      });
      return logits;
    };
    const end = () => {
      disposed = true;
      this.open--;
    };
    const { steps } = this;
    return {
      prefill: answer,
      step: (tokens, signal) => {
        steps.push([...tokens]);
        tokens.forEach((token, r) => {
          rows[r]?.push(token);
        });
        length++;
        return answer(signal);
      },
      get expertsCalls() {
        return { eager: calls };
      },
      dispose: end,
    };
  }
}
