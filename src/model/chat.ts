import { expected, InputError, show } from '../errors.ts';
import type { GenerationStream } from '../generation/generation-stream.ts';
import type { GenerateOutput } from '../generation/output.ts';
import { noMore } from '../options.ts';
import { type ChatMessage, checkMessages } from '../tokenizer/conversation.ts';
import type { CausalLMGenerateOptions } from './generate-options.ts';

/** Options of `chat`: those of `generate` that shall hold for every answer, and how the conversation begins. */
export interface ChatOptions extends Omit<ReplyOptions, 'signal' | 'streamer'> {
  /** What the model is told before the conversation. */
  system?: string | undefined;
  /** Messages that have been exchanged already. */
  messages?: readonly ChatMessage[] | undefined;
}

/** Options of one answer, in place of those of the chat. */
export type ReplyOptions = Omit<
  CausalLMGenerateOptions,
  'inputIds' | 'attentionMask' | 'prompt' | 'messages' | 'numReturnSequences'
>;

/** A user's turn: text, parts of content, or whole messages, such as the results of tools. */
export type ChatInput = string | readonly Readonly<Record<string, unknown>>[] | ChatMessage;

/** An answer. */
export interface ChatReply {
  /** Text of the answer, without special tokens. */
  readonly text: string;
  /** The message that has been added to the conversation. */
  readonly message: ChatMessage;
  readonly output: GenerateOutput;
}

/** An answer whose text is read as it comes: `for await (const text of chat.stream('…'))`. */
export interface ChatStream extends AsyncIterable<string> {
  /** The whole answer; rejects where it has failed or been left early, and the conversation is as before then. */
  readonly reply: Promise<ChatReply>;
  abort(reason?: unknown): void;
}

/** What a chat needs of a model. */
export interface ChatModel {
  generate(options: CausalLMGenerateOptions): Promise<GenerateOutput>;
  stream(options: CausalLMGenerateOptions): GenerationStream;
}

/**
 * A conversation that remembers. An answer, and what it answers, become part of it once the answer is complete; one that fails, or is
 * aborted, leaves no trace. Turns go one after the other.
 */
export class Chat {
  readonly #model: ChatModel;
  readonly #options: Omit<ChatOptions, 'system' | 'messages'>;
  #messages: readonly ChatMessage[];
  #isBusy = false;

  /** @throws InputError for messages and a system text that cannot be */
  constructor(model: ChatModel, { system, messages = [], ...options }: ChatOptions) {
    if (system !== undefined && typeof system !== 'string')
      throw new InputError(expected('chat: system', system, 'a text'));
    const given = own(options);
    if (given) throw new InputError(`chat: ${given} is the chat's own; give it to generate instead`);
    if (!Array.isArray(messages) || messages.length > 0) checkMessages(messages);
    const first = system === undefined ? [] : [{ role: 'system', content: system }];
    this.#model = model;
    this.#options = options;
    this.#messages = [...first, ...messages];
  }

  /** The conversation so far; a copy. */
  get messages(): ChatMessage[] {
    return [...this.#messages];
  }

  /**
   * Answers a turn.
   * @throws InputError while another answer is on its way; what `generate` throws
   */
  async send(
    input: ChatInput | readonly ChatMessage[],
    options: ReplyOptions = {},
    ...more: never[]
  ): Promise<ChatReply> {
    noMore(more, 'chat.send', 'options go into the second');
    const messages = this.#begin(input, options);
    try {
      return this.#end(messages, await this.#model.generate({ ...this.#options, ...options, messages }));
    } finally {
      this.#isBusy = false;
    }
  }

  /** As `send`, with the text as it comes. */
  stream(
    input: ChatInput | readonly ChatMessage[],
    options: ReplyOptions = {},
    ...more: never[]
  ): ChatStream {
    noMore(more, 'chat.stream', 'options go into the second');
    const messages = this.#begin(input, options);
    const stream = this.#model.stream({ ...this.#options, ...options, messages });
    const reply = stream.output
      .then((output) => this.#end(messages, output))
      .finally(() => {
        this.#isBusy = false;
      });
    // Whoever reads the pieces only learns of a failure there.
    reply.catch(() => {});
    return {
      reply,
      abort: (reason) => stream.abort(reason),
      async *[Symbol.asyncIterator]() {
        yield* stream;
        await reply;
      },
    };
  }

  #begin(input: ChatInput | readonly ChatMessage[], options: ReplyOptions): ChatMessage[] {
    const given = own(options);
    if (given) throw new InputError(`chat: ${given} is the chat's own; give it to generate instead`);
    if (this.#isBusy)
      throw new InputError('the chat is answering another turn; await it first, or open a second chat');
    const messages = [...this.#messages, ...turnOf(input)];
    checkMessages(messages);
    this.#isBusy = true;
    return messages;
  }

  #end(messages: readonly ChatMessage[], output: GenerateOutput): ChatReply {
    const text = output.text?.[0] ?? '';
    const message = { role: 'assistant', content: text };
    this.#messages = [...messages, message];
    return { text, message, output };
  }
}

const OWN: readonly string[] = [
  'inputIds',
  'attentionMask',
  'prompt',
  'messages',
  'numReturnSequences',
] satisfies (keyof CausalLMGenerateOptions)[];

/** An option among these that is the chat's own. */
function own(options: object): string | undefined {
  if (typeof options !== 'object' || options === null)
    throw new InputError(expected('chat: the options', options, 'an object'));
  return Object.entries(options).find(([name, value]) => OWN.includes(name) && value !== undefined)?.[0];
}

/** The messages of a turn. */
function turnOf(input: unknown): ChatMessage[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  const list: unknown[] = Array.isArray(input) ? input : [input];
  const isMessage = (item: unknown) => typeof item === 'object' && item !== null && 'role' in item;
  if (list.length > 0 && list.every(isMessage)) return list as ChatMessage[];
  if (Array.isArray(input) && list.length > 0 && !list.some(isMessage))
    return [{ role: 'user', content: input }];
  throw new InputError(
    `a turn is ${show(input)}; expected a text, a list of parts such as { type: "text", text }, or messages with role and content`,
  );
}
