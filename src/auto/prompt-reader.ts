import { HubError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import type { PromptInputs, PromptReader, RenderOptions } from '../model/prompt-options.ts';
import type { MediaPart } from '../models/architecture.ts';
import { loadProcessor, type Processor } from '../processor/processor.ts';
import { readProcessorConfig } from '../processor/processor-config.ts';
import { refuseTyped } from '../processor/typed-placeholders.ts';
import { assertTexts, type ChatMessage } from '../tokenizer/conversation.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export { typedPlaceholder } from '../processor/typed-placeholders.ts';

/** Reads prompts with the tokenizer of a repo, which is loaded when the first one needs it. */
export class TextPromptReader implements PromptReader {
  protected readonly repo: Repo;
  #tokenizer: Tokenizer | undefined;
  #loading: Promise<Tokenizer> | undefined;

  constructor(repo: Repo) {
    this.repo = repo;
  }

  /** All texts are words here. */
  assertWords(_: Readonly<Record<string, unknown>>): void {}

  get tokenizer(): Tokenizer | undefined {
    return this.#tokenizer;
  }

  loadTokenizer(): Promise<Tokenizer> {
    this.#loading ??= loadTokenizer(this.repo).then(
      (tokenizer) => {
        this.#tokenizer = tokenizer;
        return tokenizer;
      },
      (error: unknown) => {
        // What failed may succeed the next time, as where the network was away.
        this.#loading = undefined;
        throw error;
      },
    );
    return this.#loading;
  }

  async readMessages(
    messages: readonly ChatMessage[],
    { signal, ...options }: RenderOptions,
    tokenizer: Tokenizer,
  ): Promise<PromptInputs> {
    const text = tokenizer.applyChatTemplate(messages, { ...options, tokenize: false });
    assertTexts(messages, 'leave the part out, or open the model with AutoModelForImageTextToText');
    // Long texts leave the event loop free.
    const ids = await tokenizer.encodeAsync(text, { addSpecialTokens: false, ...(signal && { signal }) });
    return tokenizer.pad([ids]);
  }
}

/** Takes the pictures of messages along. */
export class ImageTextPromptReader extends TextPromptReader {
  readonly #processors = new WeakMap<Tokenizer, Promise<Processor<Tokenizer>>>();
  readonly #media: MediaPart;

  constructor(repo: Repo, media: MediaPart) {
    super(repo);
    this.#media = media;
  }

  /**
   * Reads how the repo's processor cuts pictures; nothing where it has none.
   * @throws ConfigError where the model expects something else
   */
  async check(): Promise<void> {
    try {
      await readProcessorConfig(this.repo, this.#media);
    } catch (error) {
      // Without settings, or where they cannot be had now, the model still takes inputs that were prepared elsewhere.
      if (!(error instanceof HubError)) throw error;
    }
  }

  override assertWords(texts: Readonly<Record<string, unknown>>): void {
    refuseTyped(texts);
  }

  override async readMessages(
    messages: readonly ChatMessage[],
    options: RenderOptions,
    tokenizer: Tokenizer,
  ): Promise<PromptInputs> {
    const processor = this.#processors.get(tokenizer) ?? loadProcessor(this.repo, tokenizer, {}, this.#media);
    this.#processors.set(tokenizer, processor);
    processor.catch(() => this.#processors.delete(tokenizer));
    const { documents, ...rest } = options;
    return (await processor).applyChatTemplate(messages, { ...rest, ...(documents && { documents }) });
  }
}
