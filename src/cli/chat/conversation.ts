import {
  AbortError,
  type CausalLM,
  type ChatMessage,
  type ChatOptions,
  type GenerateStats,
  GenerationAbortError,
  type ImageTextToText,
  type ResponseDelta,
} from '../../index.ts';
import { UsageError } from '../io.ts';

/** What the next answer goes by. */
export interface Settings {
  system: string | undefined;
  /** Whether the model reasons, where it can. */
  thinks: boolean;
}

/** A turn of the user, with what had been said before it. */
interface Turn {
  readonly before: readonly ChatMessage[];
  readonly message: ChatMessage;
  readonly tries: number;
}

/** A conversation whose last answer can be asked for again. What an aborted answer has said stays. */
export class Conversation {
  readonly settings: Settings;
  /** Of the last answer. */
  stats: GenerateStats | undefined;
  /** Pictures that go with the next message. */
  readonly pictures: string[] = [];
  readonly #model: CausalLM | ImageTextToText;
  readonly #options: Omit<ChatOptions, 'system' | 'messages'>;
  #messages: readonly ChatMessage[] = [];
  #last: Turn | undefined;

  /** @param options of every answer */
  constructor(
    model: CausalLM | ImageTextToText,
    settings: Settings,
    options: Omit<ChatOptions, 'system' | 'messages'>,
  ) {
    this.#model = model;
    this.settings = settings;
    this.#options = options;
  }

  /** All that has been said, with what the system says first. */
  get messages(): ChatMessage[] {
    const { system } = this.settings;
    return [...(system === undefined ? [] : [{ role: 'system', content: system }]), ...this.#messages];
  }

  /** Goes on from other messages. @throws InputError for those that are none */
  async restart(messages: readonly ChatMessage[]): Promise<void> {
    await this.#model.chat({ messages });
    const [first, ...rest] = messages;
    const hasSystem = first?.role === 'system' && typeof first.content === 'string';
    this.settings.system = hasSystem ? (first.content as string) : undefined;
    this.#messages = hasSystem ? rest : messages;
    this.#last = undefined;
    this.stats = undefined;
    this.pictures.length = 0;
  }

  /** Answers a message, with the pictures that wait for it. */
  say(text: string, signal: AbortSignal): AsyncGenerator<ResponseDelta, void, undefined> {
    const pictures = this.pictures.splice(0).map((image) => ({ type: 'image', image }));
    const content = pictures.length > 0 ? [...pictures, { type: 'text', text }] : text;
    return this.#answer({ before: this.#messages, message: { role: 'user', content }, tries: 0 }, signal);
  }

  /** Answers the last message anew. @throws UsageError where there is none */
  retry(signal: AbortSignal): AsyncGenerator<ResponseDelta, void, undefined> {
    if (!this.#last) throw new UsageError('there is no message yet that could be answered again');
    return this.#answer({ ...this.#last, tries: this.#last.tries + 1 }, signal);
  }

  async *#answer(turn: Turn, signal: AbortSignal): AsyncGenerator<ResponseDelta, void, undefined> {
    const { before, message, tries } = turn;
    const { system, thinks } = this.settings;
    const { seed } = this.#options;
    this.#last = turn;
    const chat = await this.#model.chat({
      ...this.#options,
      system,
      messages: before,
      ...(!thinks && { templateArguments: { enable_thinking: false } }),
      // With one seed all tries would be one.
      ...(seed !== undefined && { seed: seed + tries }),
    });
    const stream = chat.stream([message], { signal });
    let said = '';
    try {
      for await (const delta of stream.deltas()) {
        if (delta.type === 'content') said += delta.text;
        yield delta;
      }
      const reply = await stream.reply;
      this.#messages = [...before, message, reply.message];
      this.stats = reply.output.stats;
    } catch (error) {
      if (!(error instanceof AbortError)) throw error;
      const answer = { role: 'assistant', content: said };
      this.#messages = said === '' ? before : [...before, message, answer];
      if (error instanceof GenerationAbortError) this.stats = error.partial.stats;
      throw error;
    }
  }
}
