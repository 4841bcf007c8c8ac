import { InputError, onAbort } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateOutput } from './output.ts';
import { DecodingStreamer } from './streamers.ts';

/** Takes what a stream hands out. */
interface Sink {
  prompt(ids: readonly number[]): void;
  write(text: string): void;
}

/** Starts a generation that hands its text to a sink. */
export type StartGeneration = (sink: Sink, signal: AbortSignal) => Promise<GenerateOutput>;

/** The new text of a row, without special tokens, for a sink. */
export class SinkStreamer extends DecodingStreamer {
  readonly #sink: Sink;

  constructor(tokenizer: Tokenizer, sink: Sink) {
    super(tokenizer, { skipPrompt: true, skipSpecialTokens: true });
    this.#sink = sink;
  }

  protected override onPrompt(ids: readonly number[]): void {
    this.#sink.prompt(ids);
  }

  protected override onText(text: string): void {
    this.#sink.write(text);
  }

  protected override onEnd(): void {}
}

/**
 * A generation whose text is read as it comes: `for await (const text of stream)`. It runs from the start, whether or not it is read.
 * Leaving the loop, by `break` or an error, aborts it. The loop throws what the generation fails with.
 */
export class GenerationStream implements AsyncIterable<string> {
  /** The whole result; rejects as `generate` does, also after the loop has been left early. */
  readonly output: Promise<GenerateOutput>;
  /** The ids that are continued, once they are known; none where the generation fails before. */
  readonly promptIds: Promise<readonly number[]>;
  readonly #pieces: string[] = [];
  readonly #abort = new AbortController();
  #isOver = false;
  #isRead = false;
  #wake: () => void = () => {};

  constructor(start: StartGeneration, signal: AbortSignal | undefined) {
    const follow = () => this.abort(signal?.reason);
    if (signal?.aborted) follow();
    const stop = onAbort(signal, follow);
    let prompt: (ids: readonly number[]) => void = () => {};
    this.promptIds = new Promise((resolve) => {
      prompt = resolve;
    });
    const write = (text: string) => {
      this.#pieces.push(text);
      this.#wake();
    };
    this.output = start({ prompt, write }, this.#abort.signal).finally(() => {
      stop();
      prompt([]);
      this.#isOver = true;
      this.#wake();
    });
    // Whoever reads the pieces only learns of a failure there.
    this.output.catch(() => {});
  }

  /** Ends the generation; `output` rejects with what there is. */
  abort(reason?: unknown): void {
    this.#abort.abort(reason);
  }

  /** Whether nobody wants it any more, though it may still be coming to its end. @internal */
  get isAborted(): boolean {
    return this.#abort.signal.aborted;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#isRead) throw new InputError('a stream is read once; its whole text is in output');
    this.#isRead = true;
    try {
      for (;;) {
        while (this.#pieces.length > 0) yield this.#pieces.shift() as string;
        if (this.#isOver) break;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      await this.output;
    } finally {
      this.abort(new InputError('the stream was left before its end'));
    }
  }
}
