import type { AnswerRequest } from '../answer-request.ts';
import { badField } from '../api-error.ts';
import { AT, type ClientMessage, conversationOf, templateArguments } from '../conversation.ts';
import { refuseForeign } from '../foreign-fields.ts';
import type { Settings } from '../options.ts';
import { defined, type ModelLimits, samplingOptions, stopsOf } from '../sampling.ts';
import { type Block, type CountRequest, FOREIGN, type MessageRequest } from './message-fields.ts';

/** Blocks of a system text that change with every request and are no words to the model; they would spoil every prefix. */
const NOT_FOR_MODELS = 'x-anthropic-billing-header:';

/** What a request of `/v1/messages` asks of a model. @throws ApiError for what cannot be done */
export function messageAnswer(body: MessageRequest, settings: Settings, limits: ModelLimits): AnswerRequest {
  const { tool_choice: choice, continue_final_message: goesOn, stop_sequences: sequences } = body;
  refuseForeign(body, FOREIGN);
  const tools = toolsOf(body);
  const { stops, keepsStop } = stopsOf(body);
  const prompt = promptOf(body, settings.pictureHosts);
  if (goesOn !== undefined && goesOn !== prompt.continueFinalMessage)
    throw badField(
      'continue_final_message',
      'is so where the last message is of the assistant, and only there',
    );
  return {
    prompt,
    tools,
    stops: sequences && stops ? [...sequences, ...stops] : (sequences ?? stops),
    keepsStop,
    thinkingBudget: body.thinking?.budget_tokens ?? body.thinking_budget,
    options: {
      ...samplingOptions(body, body.max_tokens, settings, limits),
      ...defined({
        responseFormat: formatOf(body),
        toolChoice: tools && toolChoiceOf(choice),
        parallelToolCalls: choice?.disable_parallel_tool_use === true ? false : undefined,
      }),
    },
  };
}

function formatOf({ output_config: config, output_format: older }: MessageRequest) {
  if (config?.format && older)
    throw badField('output_format', 'is given beside output_config.format; leave it out');
  const format = config?.format ?? older;
  return format && { type: format.type, schema: format.schema };
}

function toolChoiceOf(choice: MessageRequest['tool_choice']) {
  if (choice?.type === 'any') return 'required' as const;
  if (choice?.type !== 'tool') return choice?.type;
  if (choice.name === undefined)
    throw badField('tool_choice.name', 'is missing; expected the name of a tool');
  return { name: choice.name };
}

/** The conversation of a request. */
export function promptOf(body: CountRequest, pictureHosts: readonly string[]) {
  const system = textOf(body.system ?? '', 'system', (text) => !text.startsWith(NOT_FOR_MODELS));
  const said = body.messages.flatMap((message, i) =>
    messagesOf(message.role, message.content, `messages.${i}.content`),
  );
  return {
    messages: conversationOf([{ role: 'system', content: system }, ...said], pictureHosts),
    // A last word of the assistant is its answer's beginning.
    continueFinalMessage: body.messages.at(-1)?.role === 'assistant',
    templateArguments: {
      ...(body.thinking !== undefined && { enable_thinking: body.thinking.type !== 'disabled' }),
      ...templateArguments(body.chat_template_kwargs),
    },
  };
}

/** Tools in OpenAI's words, which chat templates know; those that run on Anthropic's servers have no schema and are left out. */
export function toolsOf({ tools }: CountRequest) {
  return tools
    ?.filter(({ input_schema: schema }) => schema !== undefined)
    .map(({ name, description, input_schema: parameters }) => ({
      type: 'function',
      function: { name, ...(description !== undefined && { description }), parameters },
    }));
}

function messagesOf(role: string, content: string | Block[], path: string): ClientMessage[] {
  if (typeof content === 'string') return [{ role, content, [AT]: path }];
  if (role === 'assistant') return [assistantMessage(content, path)];
  const results = content
    .map((block, i) => ({ block, at: `${path}.${i}` }))
    .filter(({ block }) => block.type === 'tool_result')
    .map(({ block, at }) => ({
      role: 'tool',
      tool_call_id: block.tool_use_id,
      content: textOf((block.content ?? '') as string | Block[], `${at}.content`),
    }));
  const parts = content.flatMap((block, i) =>
    block.type === 'tool_result' ? [] : [partOf(block, `${path}.${i}`)],
  );
  return [...results, ...(parts.length > 0 ? [{ role, content: parts, [AT]: path }] : [])];
}

function assistantMessage(content: Block[], path: string): ClientMessage {
  const of = (type: string) => content.filter((block) => block.type === type);
  const unknown = content.findIndex(
    ({ type }) => !['text', 'thinking', 'redacted_thinking', 'tool_use'].includes(type),
  );
  if (unknown !== -1)
    throw badField(
      `${path}.${unknown}.type`,
      `${JSON.stringify(content[unknown]?.type)} is not taken of an assistant`,
    );
  const thinking = of('thinking').map((block) => String(block.thinking ?? ''));
  return {
    role: 'assistant',
    content: of('text')
      .map((block) => String(block.text ?? ''))
      .join(''),
    ...(thinking.length > 0 && { reasoning_content: thinking.join('\n') }),
    tool_calls: of('tool_use').map((block) => ({
      id: String(block.id ?? ''),
      function: { name: String(block.name ?? ''), arguments: block.input ?? {} },
    })),
  };
}

function partOf(block: Block, path: string) {
  if (block.type === 'text') {
    if (typeof block.text !== 'string') throw badField(`${path}.text`, 'expected a text');
    return { type: 'text', text: block.text };
  }
  if (block.type !== 'image')
    throw badField(
      `${path}.type`,
      `${JSON.stringify(block.type)} is not taken; text, image, tool_use and tool_result are`,
    );
  const source = block.source as
    | { type?: unknown; media_type?: unknown; data?: unknown; url?: unknown }
    | undefined;
  if (source?.type === 'url') return { type: 'image_url', image_url: { url: source.url } };
  if (source?.type !== 'base64') throw badField(`${path}.source.type`, 'expected base64 or url');
  return {
    type: 'image_url',
    image_url: { url: `data:${String(source.media_type)};base64,${String(source.data)}` },
  };
}

/** The text of blocks, of which pictures have no place here. */
function textOf(content: string | Block[], path: string, isWanted = (_: string) => true): string {
  if (typeof content === 'string') return content;
  return content
    .map((block, i) => {
      if (block.type === 'text' && typeof block.text === 'string') return block.text;
      throw badField(`${path}.${i}`, 'expected a text');
    })
    .filter(isWanted)
    .join('\n');
}
