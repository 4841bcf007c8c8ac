import type { CallbackManagerForLLMRun } from '@langchain/core/callbacks/manager';
import type {
  BaseLanguageModelInput,
  StructuredOutputMethodOptions,
} from '@langchain/core/language_models/base';
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
  type LangSmithParams,
} from '@langchain/core/language_models/chat_models';
import {
  assembleStructuredOutputPipeline,
  createContentParser,
  createFunctionCallingParser,
} from '@langchain/core/language_models/structured_output';
import type { AIMessageChunk, BaseMessage } from '@langchain/core/messages';
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs';
import type { Runnable } from '@langchain/core/runnables';
import { convertToOpenAITool } from '@langchain/core/utils/function_calling';
import { toJsonSchema } from '@langchain/core/utils/json_schema';
import type { SerializableSchema } from '@langchain/core/utils/standard_schema';
import type { InteropZodType } from '@langchain/core/utils/types';
import { expected, InputError } from '../errors.ts';
import type {
  CausalLM,
  CausalLMGenerateOptions,
  ImageTextToText,
  ResponseFormat,
  ToolChoice,
} from '../index.ts';
import { answer, wholeAnswer } from '../server/answer.ts';
import type { AnswerRequest } from '../server/answer-request.ts';
import { settingsOf } from '../server/options.ts';
import { defined, samplingOptions } from '../server/sampling.ts';
import { chunksOf, messageOf } from './answer-chunks.ts';
import { messagesOf } from './messages.ts';

/** How tokens are chosen; what is left out is as the model's generation_config.json has it. */
interface SamplingFields {
  /** 0 is greedy. */
  temperature?: number | undefined;
  topP?: number | undefined;
  topK?: number | undefined;
  /** Most new tokens. Default: what the context leaves. */
  maxTokens?: number | undefined;
  seed?: number | undefined;
  /**
   * Further options of `generate`, such as `templateArguments: { enable_thinking: false }` or `expertsImplementation`; each in place of the field of
   * the same meaning.
   */
  options?: Partial<CausalLMGenerateOptions> | undefined;
}

export interface ChatSwitchyardFields extends BaseChatModelParams, SamplingFields {
  model: CausalLM | ImageTextToText;
  /** Texts that end an answer, where a call names none. */
  stop?: string[] | undefined;
}

export interface ChatSwitchyardCallOptions extends BaseChatModelCallOptions, SamplingFields {
  tools?: BindToolsInput[];
  /** What the text of the answer has to be. */
  responseFormat?: ResponseFormat;
}

/** Without limits: who calls is the program that holds the model. */
const SETTINGS = settingsOf({});
const SAMPLING = ['temperature', 'topP', 'topK', 'maxTokens', 'seed'] as const;
type Schema<T extends Record<string, unknown>> =
  | InteropZodType<T>
  | SerializableSchema<T>
  | Record<string, unknown>;

/**
 * A model as LangChain.js takes it, in the same process: `new ChatSwitchyard({ model })`, then `invoke`, `stream`, `bindTools`, `withStructuredOutput`
 * and what else runnables do. Calls at the same time share passes. Reasoning is told as `additional_kwargs.reasoning_content`, what a call
 * took as `usage_metadata`.
 */
export class ChatSwitchyard extends BaseChatModel<ChatSwitchyardCallOptions, AIMessageChunk> {
  /** A model cannot be written down. */
  override lc_serializable = false;
  readonly #model: CausalLM | ImageTextToText;
  readonly #fields: SamplingFields & { stop?: string[] | undefined };

  static override lc_name(): string {
    return 'ChatSwitchyard';
  }

  /** @throws InputError for what is no model that generates */
  constructor({
    model,
    temperature,
    topP,
    topK,
    maxTokens,
    seed,
    options,
    stop,
    ...base
  }: ChatSwitchyardFields) {
    super(base);
    if (typeof model?.generate !== 'function')
      throw new InputError(expected('ChatSwitchyard: model', model, 'a model that generates'));
    this.#model = model;
    this.#fields = { temperature, topP, topK, maxTokens, seed, options, stop };
  }

  override _llmType(): string {
    return 'switchyard';
  }

  /** What answers depend on, for LangChain's cache. */
  override _identifyingParams(): Record<string, unknown> {
    return { model: this.#model.nameOrPath, ...defined(this.#fields) };
  }

  override getLsParams(options: this['ParsedCallOptions']): LangSmithParams {
    const { temperature, maxTokens } = { ...this.#fields, ...defined(options) };
    return {
      ls_provider: 'switchyard',
      ls_model_name: this.#model.nameOrPath,
      ls_model_type: 'chat',
      ...defined({ ls_temperature: temperature, ls_max_tokens: maxTokens, ls_stop: options.stop }),
    };
  }

  override bindTools(
    tools: BindToolsInput[],
    options: Partial<ChatSwitchyardCallOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, ChatSwitchyardCallOptions> {
    return this.withConfig({ ...options, tools: tools.map((tool) => convertToOpenAITool(tool)) });
  }

  override async _generate(messages: BaseMessage[], options: this['ParsedCallOptions']): Promise<ChatResult> {
    const end = await wholeAnswer(this.#answer(messages, options)).catch((error: unknown) => {
      throw options.signal?.aborted ? options.signal.reason : error;
    });
    const message = messageOf(end, this.#model.nameOrPath);
    return {
      generations: [{ text: end.message.content, message }],
      llmOutput: { tokenUsage: message.usage_metadata },
    };
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this['ParsedCallOptions'],
    runManager?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const chunks = chunksOf(this.#answer(messages, options), this.#model.nameOrPath);
    try {
      for await (const message of chunks) {
        const text = message.content as string;
        const chunk = new ChatGenerationChunk({ text, message });
        yield chunk;
        await runManager?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
      }
    } catch (error) {
      throw options.signal?.aborted ? options.signal.reason : error;
    }
  }

  override withStructuredOutput<T extends Record<string, unknown> = Record<string, unknown>>(
    schema: Schema<T>,
    config?: StructuredOutputMethodOptions<false>,
  ): Runnable<BaseLanguageModelInput, T>;
  override withStructuredOutput<T extends Record<string, unknown> = Record<string, unknown>>(
    schema: Schema<T>,
    config?: StructuredOutputMethodOptions<true>,
  ): Runnable<BaseLanguageModelInput, { raw: BaseMessage; parsed: T }>;
  /**
   * Answers by a schema, of zod or JSON, which holds while they are generated: as the text of the answer (`jsonSchema`, the default), or as the
   * arguments of a call (`functionCalling`).
   * @throws InputError for another method
   */
  override withStructuredOutput<T extends Record<string, unknown> = Record<string, unknown>>(
    schema: Schema<T>,
    { name = 'extract', method = 'jsonSchema', includeRaw }: StructuredOutputMethodOptions<boolean> = {},
  ): Runnable<BaseLanguageModelInput, T> | Runnable<BaseLanguageModelInput, { raw: BaseMessage; parsed: T }> {
    const json = toJsonSchema(schema as Parameters<typeof toJsonSchema>[0]);
    switch (method) {
      case 'jsonSchema': {
        const held = this.withConfig({ responseFormat: { type: 'json_schema', schema: json } });
        return assembleStructuredOutputPipeline(held, createContentParser<T>(schema), includeRaw);
      }
      case 'jsonMode': {
        const held = this.withConfig({ responseFormat: { type: 'json_object' } });
        return assembleStructuredOutputPipeline(held, createContentParser<T>(schema), includeRaw);
      }
      case 'functionCalling': {
        const tool = { type: 'function', function: { name, parameters: json } };
        const held = this.bindTools([tool], { tool_choice: name });
        return assembleStructuredOutputPipeline(
          held,
          createFunctionCallingParser<T>(schema, name),
          includeRaw,
        );
      }
      default:
        throw new InputError(
          expected('withStructuredOutput: method', method, '"jsonSchema", "functionCalling" or "jsonMode"'),
        );
    }
  }

  #answer(messages: readonly BaseMessage[], options: this['ParsedCallOptions']) {
    const served = { name: this.#model.nameOrPath, model: this.#model, created: 0 };
    const signal = options.signal ?? new AbortController().signal;
    return answer(served, this.#request(messages, options), signal);
  }

  #request(messages: readonly BaseMessage[], call: this['ParsedCallOptions']): AnswerRequest {
    const given = Object.fromEntries(SAMPLING.map((name) => [name, call[name] ?? this.#fields[name]]));
    const { temperature, topP, topK, maxTokens, seed } = given as SamplingFields;
    const {
      templateArguments = {},
      continueFinalMessage = false,
      ...rest
    } = {
      ...this.#fields.options,
      ...call.options,
    };
    const tools = call.tools?.map((tool) => convertToOpenAITool(tool));
    return {
      prompt: { messages: messagesOf(messages), continueFinalMessage, templateArguments },
      tools,
      stops: call.stop ?? this.#fields.stop,
      options: {
        ...samplingOptions({ temperature, top_p: topP, top_k: topK, seed }, maxTokens, SETTINGS, this.#model),
        ...defined({ responseFormat: call.responseFormat, toolChoice: tools && choiceOf(call.tool_choice) }),
        ...rest,
      },
    };
  }
}

/** As LangChain names the choices, and as OpenAI does. */
function choiceOf(choice: ChatSwitchyardCallOptions['tool_choice']): ToolChoice | undefined {
  if (choice === undefined || choice === 'auto' || choice === 'none') return choice;
  if (choice === 'any' || choice === 'required') return 'required';
  if (typeof choice === 'string') return { name: choice };
  const name: unknown = choice.function?.name ?? choice.name;
  if (typeof name === 'string') return { name };
  throw new InputError(expected('tool_choice', choice, '"auto", "any", "none" or the name of a tool'));
}
