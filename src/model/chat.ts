import { expected, InputError } from '../errors.ts';
import { GenerationStream, SinkStreamer } from '../generation/generation-stream.ts';
import { type GenerateOutput, isCutOff } from '../generation/output.ts';
import { checkGenerateOptions } from '../generation/plan.ts';
import { isRecord, noMore } from '../options.ts';
import { type ChatMessage, checkMessages } from '../tokenizer/conversation.ts';
import type { ResponseDelta } from '../tokenizer/response/events.ts';
import type { ResponseParser, ToolCall } from '../tokenizer/response/parser.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { CausalLMGenerateOptions } from './generate-options.ts';
import { PROMPT_OPTIONS } from './prompt-options.ts';

/** Options of `chat`: those of `generate` that shall hold for every answer, and how the conversation begins. */
export interface ChatOptions extends Omit<ReplyOptions, 'signal'> {
  /** What the model is told before the conversation. */
  system?: string | undefined;
  /** Messages that have been exchanged already. */
  messages?: readonly ChatMessage[] | undefined;
}

/** Options of one answer, in place of those of the chat. */
export type ReplyOptions = Omit<
  CausalLMGenerateOptions,
  'inputIds' | 'attentionMask' | 'prompt' | 'messages' | 'numReturnSequences' | 'cache' | 'streamer'
>;

/** A user's turn: text, parts of content, or whole messages, such as the results of tools. */
export type ChatInput = string | readonly Readonly<Record<string, unknown>>[] | ChatMessage;

/** An answer. */
export interface ChatReply {
  /** What the model says, without its reasoning and calls. */
  readonly text: string;
  /** Only where the model reasoned. */
  readonly reasoning?: string;
  /** Only where it calls functions; their results go into the next turn, as messages of the role `tool`. */
  readonly toolCalls?: readonly ToolCall[];
  /** The message that has been added to the conversation. */
  readonly message: ChatMessage;
  readonly output: GenerateOutput;
}

/** What a chat needs of a model. */
export interface ChatModel {
  generate(options: CausalLMGenerateOptions): Promise<GenerateOutput>;
}

/**
 * A conversation that remembers. An answer, and what it answers, become part of it once the answer is complete; one that fails, or is
 * aborted, leaves no trace. Turns go one after the other: a new one waits until one that was left has come to its end.
 */
export class Chat {
  readonly #model: ChatModel;
  readonly #tokenizer: Tokenizer;
  readonly #options: Omit<ChatOptions, 'system' | 'messages'>;
  #messages: readonly ChatMessage[];
  /** The turn that is being answered. */
  #current: ChatStream | undefined;

  /** @param options checked with {@link checkChatOptions} */
  constructor(model: ChatModel, tokenizer: Tokenizer, { system, messages = [], ...options }: ChatOptions) {
    const first = system === undefined ? [] : [{ role: 'system', content: system }];
    this.#model = model;
    this.#tokenizer = tokenizer;
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
  send(
    input: ChatInput | readonly ChatMessage[],
    options: ReplyOptions = {},
    ...more: never[]
  ): Promise<ChatReply> {
    try {
      return this.stream(input, options, ...more).reply;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * As `send`, with the text as it comes.
   * @throws InputError while another answer is on its way, and for a turn or options that are none
   */
  stream(
    input: ChatInput | readonly ChatMessage[],
    options: ReplyOptions = {},
    ...more: never[]
  ): ChatStream {
    noMore(more, 'chat.stream', 'options go into the second');
    assertOurs(options);
    checkGenerateOptions(options, [], PROMPT_OPTIONS, 'chat');
    const before = this.#current;
    if (before && !before.isLeft)
      throw new InputError(
        'the chat is answering another turn; await it first, abort it, or open a second chat',
      );
    const turn = turnOf(input);
    checkMessages([...this.#messages, ...turn]);
    const tokenizer = options.tokenizer ?? this.#tokenizer;
    const settings = { ...this.#options, ...options, tokenizer };
    let messages = turn;
    const stream = new GenerationStream(async (sink, signal) => {
      await before?.reply.catch(() => {});
      // Only now is it certain whether what was left has become part of the conversation.
      messages = [...this.#messages, ...turn];
      const streamer = new SinkStreamer(tokenizer, sink);
      return this.#model.generate({ ...settings, messages, streamer, signal });
    }, options.signal);
    const parser = async () => {
      const prompt = (await stream.promptIds).slice(-PROMPT_TAIL);
      return tokenizer.responseParser({
        prompt: tokenizer.decode(prompt, { unknownIds: 'skip' }),
        ...(settings.tools && { tools: settings.tools }),
      });
    };
    const done = (reply: ChatReply) => {
      this.#messages = [...messages, reply.message];
    };
    const over = () => {
      if (this.#current === answer) this.#current = undefined;
    };
    const answer = new ChatStream(stream, parser, done, over);
    this.#current = answer;
    return answer;
  }
}

/** Tokens at the end of the prompt, in which it stands whether the model is about to reason. */
const PROMPT_TAIL = 4096;

/**
 * An answer that is read as it comes: `for await (const text of chat.stream('…'))` gives what the model says, `deltas()` reasoning and
 * calls too. Leaving the loop aborts it.
 */
export class ChatStream implements AsyncIterable<string> {
  /** The whole answer; rejects where it has failed or been left early, and the conversation is as before then. */
  readonly reply: Promise<ChatReply>;
  readonly #stream: GenerationStream;
  readonly #parser: () => Promise<ResponseParser>;

  /**
   * @param parser makes one that stands before the answer
   * @param done told the whole answer
   * @param over told that the generation has ended, well or not
   */
  constructor(
    stream: GenerationStream,
    parser: () => Promise<ResponseParser>,
    done: (reply: ChatReply) => void,
    over: () => void,
  ) {
    this.#stream = stream;
    this.#parser = parser;
    this.reply = stream.output
      .then(async (output) => {
        const reply = replyOf(await parser(), output);
        done(reply);
        return reply;
      })
      .finally(over);
    // Whoever reads the pieces only learns of a failure there.
    this.reply.catch(() => {});
  }

  /** Whether it is aborted, or nobody reads on. @internal */
  get isLeft(): boolean {
    return this.#stream.isAborted;
  }

  /** Ends the answer; `reply` rejects. */
  abort(reason?: unknown): void {
    this.#stream.abort(reason);
  }

  /** Pieces of reasoning, text and calls, as they become certain. */
  async *deltas(): AsyncGenerator<ResponseDelta, void, undefined> {
    const parser = await this.#parser();
    for await (const text of this.#stream) yield* parser.push(text);
    const { finishReasons } = await this.#stream.output;
    yield* parser.end(isCutOff(finishReasons[0]));
    await this.reply;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for await (const delta of this.deltas()) if (delta.type === 'content') yield delta.text;
  }
}

function replyOf(parser: ResponseParser, output: GenerateOutput): ChatReply {
  parser.push(output.text?.[0] ?? '');
  parser.end(isCutOff(output.finishReasons[0]));
  const { message } = parser;
  return {
    text: message.content,
    ...(message.reasoning_content !== undefined && { reasoning: message.reasoning_content }),
    ...(message.tool_calls && { toolCalls: message.tool_calls }),
    message,
    output,
  };
}

/** @throws InputError for a system text and messages that cannot be, and for options that are the chat's own */
export function checkChatOptions(options: ChatOptions): void {
  assertOurs(options, ['messages']);
  const { system, messages } = options;
  if ((options as ReplyOptions).signal !== undefined)
    throw new InputError('chat: signal ends a single answer; give it to send or stream');
  if (system !== undefined && typeof system !== 'string')
    throw new InputError(expected('chat: system', system, 'a text'));
  if (messages !== undefined && !(Array.isArray(messages) && messages.length === 0)) {
    checkMessages(messages);
    assertRoles(messages);
  }
}

const OWN: readonly string[] = [
  'inputIds',
  'attentionMask',
  'prompt',
  'messages',
  'numReturnSequences',
  'cache',
  'streamer',
] satisfies (keyof CausalLMGenerateOptions)[];

/** @param allowed of those the ones that open it. @throws InputError for an option that is the chat's own */
function assertOurs(options: object, allowed: readonly string[] = []): void {
  if (!isRecord(options)) throw new InputError(expected('chat: the options', options, 'an object'));
  const given = Object.entries(options).find(
    ([name, value]) => OWN.includes(name) && !allowed.includes(name) && value !== undefined,
  );
  if (given) throw new InputError(`chat: ${given[0]} is the chat's own; give it to generate instead`);
}

/** Who takes part in a chat. */
const ROLES: readonly unknown[] = ['system', 'developer', 'user', 'assistant', 'tool'];

/** @throws InputError for what takes no part in a chat */
function assertRoles(messages: readonly ChatMessage[]): void {
  const at = messages.findIndex(({ role }) => !ROLES.includes(role));
  if (at === -1) return;
  const { role } = messages[at] as ChatMessage;
  throw new InputError(
    `${expected(`messages[${at}].role`, role, `one of ${ROLES.join(', ')}`)}. Where a template has others, give generate the messages`,
  );
}

/** The messages of a turn. */
function turnOf(input: unknown): ChatMessage[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  const list: unknown[] = Array.isArray(input) ? input : [input];
  const isMessage = (item: unknown) => typeof item === 'object' && item !== null && 'role' in item;
  if (list.length > 0 && list.every(isMessage)) {
    assertRoles(list as ChatMessage[]);
    return list as ChatMessage[];
  }
  if (Array.isArray(input) && list.length > 0 && !list.some(isMessage))
    return [{ role: 'user', content: input }];
  throw new InputError(
    expected(
      'a turn',
      input,
      'a text, a list of parts such as { type: "text", text }, or messages with role and content',
    ),
  );
}
