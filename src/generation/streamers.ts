import { expected, InputError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import type { Detokenizer } from '../tokenizer/detokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TokenLogprobs } from './logprobs.ts';
import { StopFilter } from './stop-filter.ts';

/** Receives a generation of one row while it runs: the prompt first, then each new token, then the end. */
export interface Streamer {
  /** Called before all else where it exists. @param info.stopStrings texts that are to be cut at the end of the row */
  begin?(info: { readonly stopStrings: readonly string[] }): void | Promise<void>;
  /** @param logprobs of the token, where `logprobs` asks for them */
  put(ids: readonly number[], logprobs?: TokenLogprobs): void | Promise<void>;
  /** The generation is over, or was aborted. */
  end(): void | Promise<void>;
  /** Whether nobody listens any more: the row then ends with its next token, with the reason `stop`. */
  readonly isClosed?: boolean;
  /** The generation failed or was aborted; called instead of `end` where it exists. */
  fail?(error: unknown): void | Promise<void>;
}

export interface TextStreamerOptions {
  /** Leaves out the prompt. Default false. */
  skipPrompt?: boolean;
  /** Leaves out special tokens. Default false. */
  skipSpecialTokens?: boolean;
  /** Takes each piece of text; a promise it returns is awaited. Default: standard output, with a line break at the end. */
  write?: (text: string) => unknown;
}

/** Decodes a row as it comes; subclasses say where the text goes. */
export abstract class DecodingStreamer implements Streamer {
  readonly #detokenizer: Detokenizer;
  #stop = new StopFilter([]);
  readonly #skipsPrompt: boolean;
  #isPrompt = true;

  constructor(
    tokenizer: Tokenizer,
    options: Omit<TextStreamerOptions, 'write'>,
    more: readonly string[] = [],
  ) {
    if (typeof tokenizer?.detokenizer !== 'function') {
      throw new InputError(expected('The first argument of a text streamer', tokenizer, 'the tokenizer'));
    }
    checkOptions(options, ['skipPrompt', 'skipSpecialTokens', ...more], 'text streamer');
    this.#detokenizer = tokenizer.detokenizer({ skipSpecialTokens: options.skipSpecialTokens ?? false });
    this.#skipsPrompt = options.skipPrompt ?? false;
  }

  /** Text that may be the beginning of a stop string is then held back until it is certain. */
  begin({ stopStrings }: { readonly stopStrings: readonly string[] }): void {
    this.#stop = new StopFilter(stopStrings);
  }

  async put(ids: readonly number[]): Promise<void> {
    const isPrompt = this.#isPrompt;
    this.#isPrompt = false;
    if (isPrompt) this.onPrompt(ids);
    if (isPrompt && this.#skipsPrompt) return;
    let text = '';
    for (const id of ids) text += this.#detokenizer.push(id);
    // Stop strings of the prompt end nothing.
    if (!isPrompt) text = this.#stop.push(text);
    if (text !== '') await this.onText(text);
  }

  async end(): Promise<void> {
    const text = this.#stop.flush(this.#detokenizer.flush());
    if (text !== '') await this.onText(text);
    await this.onEnd();
  }

  /** The prompt's ids have come, before all text. */
  protected onPrompt(_ids: readonly number[]): void {}
  protected abstract onText(text: string): unknown;
  protected abstract onEnd(): unknown;
}

/**
 * Writes text as it is generated. Each piece ends with a whole character; transformers' streamer of this name also
 * waits for whole words.
 */
export class TextStreamer extends DecodingStreamer {
  readonly #write: (text: string) => unknown;
  readonly #last: string;

  constructor(tokenizer: Tokenizer, options: TextStreamerOptions = {}) {
    super(tokenizer, options, ['write']);
    if (options.write !== undefined && typeof options.write !== 'function')
      throw new InputError(expected('text streamer: write', options.write, 'a function'));
    this.#write = options.write ?? ((text) => process.stdout.write(text));
    this.#last = options.write ? '' : '\n';
  }

  protected override onText(text: string): unknown {
    return this.#write(text);
  }

  protected override onEnd(): unknown {
    return this.#last === '' ? undefined : this.#write(this.#last);
  }
}

/**
 * Hands out text as it is generated: `for await (const text of streamer)`, beside a `generate` that is not awaited.
 * The loop throws what `generate` throws; leaving it ends the generation, which gives what there is.
 */
export class TextIteratorStreamer extends DecodingStreamer implements AsyncIterable<string> {
  #pieces: string[] = [];
  #wake: (() => void) | undefined;
  #state: 'running' | 'ended' | { error: unknown } = 'running';
  #isClosed = false;

  constructor(tokenizer: Tokenizer, options: Omit<TextStreamerOptions, 'write'> = {}) {
    super(tokenizer, options);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  fail(error: unknown): void {
    this.#state = { error };
    this.#wake?.();
  }

  protected override onText(text: string): void {
    this.#pieces.push(text);
    this.#wake?.();
  }

  protected override onEnd(): void {
    this.#state = 'ended';
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    try {
      for (;;) {
        while (this.#pieces.length > 0) yield this.#pieces.shift() as string;
        if (this.#state === 'ended') return;
        if (this.#state !== 'running') throw this.#state.error;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#isClosed = true;
    }
  }
}
