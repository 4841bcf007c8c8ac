import type { Decoding, DecodingRequest, Generator, Scores, TopLogits } from '../../src/generation/types.ts';

export interface LookupModelOptions {
  contextLength?: number;
  /** Takes each step's time: awaited before it answers. */
  pause?: () => Promise<unknown>;
}

/** The `count` highest logits of every row, by sorting them. */
export function topLogits(logits: Float32Array, rows: number, count: number): TopLogits {
  const vocab = logits.length / rows;
  const value = (x: number | undefined) => (x === undefined || Number.isNaN(x) ? -Infinity : x);
  const values = new Float32Array(rows * count);
  const ids = new Int32Array(rows * count);
  for (let row = 0; row < rows; row++) {
    const of = logits.subarray(row * vocab, (row + 1) * vocab);
    const order = [...of.keys()].sort((a, b) =>
      value(of[a]) > value(of[b]) ? -1 : value(of[a]) < value(of[b]) ? 1 : a - b,
    );
    for (const [i, id] of order.slice(0, count).entries()) {
      values[row * count + i] = value(of[id]);
      ids[row * count + i] = id;
    }
  }
  return { count, values, ids };
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
  /** How often all logits were fetched. */
  fetched = 0;
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
    let rows = request.prompts.map(({ ids }) => [...ids]);
    let live = [...rows.keys()];
    let steps = 0;
    let calls = 0;
    let disposed = false;
    /** @param fed how many of its last tokens each live row has scores after */
    const answer = async (
      fed: readonly number[],
      candidates: number,
      signal: AbortSignal | undefined,
    ): Promise<Scores> => {
      if (disposed) throw new Error('used after dispose');
      if (steps > request.newTokens) throw new Error('cache overrun');
      await this.#pause?.();
      signal?.throwIfAborted();
      calls++;
      const ends = live.flatMap((row, i) => {
        const { length } = rows[row] as number[];
        return Array.from({ length: fed[i] as number }, (_, at) => [
          row,
          length - (fed[i] as number) + at + 1,
        ]);
      }) as [number, number][];
      const logits = new Float32Array(ends.length * this.vocabSize);
      for (const [place, [row, end]] of ends.entries()) {
        const tokens = (rows[row] as number[]).slice(0, end);
        logits.set(this.row(tokens.at(-2) ?? 0, tokens.at(-1) as number), place * this.vocabSize);
      }
      return {
        top: topLogits(logits, ends.length, candidates),
        logits: async () => {
          this.fetched++;
          return logits;
        },
      };
    };
    const end = () => {
      disposed = true;
      this.open--;
    };
    return {
      prefill: (candidates, signal) =>
        answer(
          rows.map(() => 1),
          candidates,
          signal,
        ),
      step: (rowsOfStep, tokens, candidates, signal) => {
        if (rowsOfStep.some((row) => !live.includes(row))) throw new Error('an ended row came back');
        live = [...rowsOfStep];
        this.steps.push(tokens.flat());
        for (const [place, fed] of tokens.entries()) rows[live[place] as number]?.push(...fed);
        steps++;
        return answer(
          tokens.map(({ length }) => length),
          candidates,
          signal,
        );
      },
      fork: (parents) => {
        if (parents.some((row) => !live.includes(row))) throw new Error('a fork of an ended row');
        rows = parents.map((row) => [...(rows[row] as number[])]);
        live = [...rows.keys()];
      },
      takeBack: (row, count) => {
        (rows[row] as number[]).length -= count;
      },
      cachedTokens: 0,
      get expertsCalls() {
        return { eager: calls };
      },
      finish: () => {},
      dispose: end,
    };
  }
}
