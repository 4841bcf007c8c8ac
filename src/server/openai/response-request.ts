import type { AnswerOptions } from '../../index.ts';
import type { AnswerRequest } from '../answer-request.ts';
import { badField } from '../api-error.ts';
import { AT, type ClientMessage, conversationOf, templateArguments } from '../conversation.ts';
import { refuseForeign } from '../foreign-fields.ts';
import type { Settings } from '../options.ts';
import { defined, type ModelLimits, samplingOptions, stopsOf } from '../sampling.ts';
import { thinking } from './chat-request.ts';
import { FOREIGN, LOGPROBS, type ResponseItem, type ResponseRequest } from './response-fields.ts';

/**
 * What a request of `/v1/responses` asks of a model. The server keeps nothing: what has been said comes with each request.
 * @throws ApiError for what cannot be done
 */
export function responseAnswer(
  body: ResponseRequest,
  settings: Settings,
  limits: ModelLimits,
): AnswerRequest {
  if (body.previous_response_id !== undefined)
    throw badField(
      'previous_response_id',
      'is not taken: this server keeps no responses; send the whole input',
    );
  if (body.conversation !== undefined && body.conversation !== null)
    throw badField('conversation', 'is not taken: this server keeps no conversations; send the whole input');
  if (body.background)
    throw badField('background', 'is not taken: responses are made while the request lasts');
  refuseForeign(body, FOREIGN);
  const tools = toolsOf(body);
  return {
    prompt: {
      messages: conversationOf(messagesOf(body), settings.pictureHosts),
      continueFinalMessage: body.continue_final_message ?? false,
      templateArguments: {
        ...thinking(body.reasoning?.effort),
        ...templateArguments(body.chat_template_kwargs),
      },
    },
    tools,
    ...stopsOf(body),
    thinkingBudget: body.thinking_budget,
    options: {
      ...samplingOptions(body, body.max_output_tokens, settings, limits),
      ...defined({
        responseFormat: formatOf(body),
        toolChoice: tools && choiceOf(body.tool_choice),
        parallelToolCalls: body.parallel_tool_calls,
        logprobs: logprobsOf(body),
      }),
    },
  };
}

/** Functions in the words of chat completions, which chat templates know; tools of OpenAI's own servers are left out. */
function toolsOf({ tools }: ResponseRequest) {
  const functions = tools
    ?.filter(({ type }) => type === 'function')
    .map(({ type, ...rest }) => ({ type, function: rest }));
  return functions && functions.length > 0 ? functions : undefined;
}

/** How many of the likeliest tokens to tell of at each place, if any. */
function logprobsOf({ include, top_logprobs: top = 0 }: ResponseRequest): number | undefined {
  if (include?.includes(LOGPROBS)) return top;
  if (top > 0) throw badField('top_logprobs', `needs include: ["${LOGPROBS}"]`);
  return undefined;
}

function choiceOf(choice: ResponseRequest['tool_choice']): AnswerOptions['toolChoice'] {
  if (typeof choice !== 'object') return choice;
  if (choice.type !== 'function' || choice.name === undefined)
    throw badField('tool_choice', 'expected "auto", "none", "required" or { type: "function", name }');
  return { name: choice.name };
}

function formatOf({ text }: ResponseRequest): AnswerOptions['responseFormat'] {
  const format = text?.format;
  switch (format?.type) {
    case undefined:
      return undefined;
    case 'text':
    case 'json_object':
      return { type: format.type };
    case 'json_schema':
      return { type: 'json_schema', schema: format.schema };
    default:
      throw badField(
        'text.format.type',
        `${JSON.stringify(format?.type)} is not taken; text, json_object and json_schema are`,
      );
  }
}

function messagesOf({ input, instructions }: ResponseRequest): ClientMessage[] {
  const first = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  // Clients look whether a server is there with an empty input.
  const items =
    typeof input === 'string' ? [{ type: 'message', role: 'user' as const, content: input }] : input;
  const messages = joined(items.flatMap((item, i) => messageOf(item, `input.${i}`)));
  return [...first, ...(messages.length > 0 ? messages : [{ role: 'user', content: '' }])];
}

function messageOf(item: ResponseItem, path: string): ClientMessage[] {
  switch (item.type ?? 'message') {
    case 'message':
      if (item.role === undefined) throw badField(`${path}.role`, 'is missing');
      return [{ role: item.role, content: item.content, [AT]: `${path}.content` }];
    case 'function_call':
      return [
        {
          role: 'assistant',
          tool_calls: [
            { id: String(item.call_id), function: { name: String(item.name), arguments: item.arguments } },
          ],
        },
      ];
    case 'function_call_output':
      return [
        { role: 'tool', tool_call_id: item.call_id, content: outputOf(item.output), [AT]: `${path}.output` },
      ];
    case 'reasoning':
      return [{ role: 'assistant', reasoning_content: reasoningOf(item) }];
    default:
      // Items of tools that only OpenAI's servers run mean nothing here.
      return [];
  }
}

function outputOf(output: unknown): unknown {
  return typeof output === 'string' || Array.isArray(output) ? output : JSON.stringify(output ?? '');
}

function reasoningOf({ content, summary }: ResponseItem): string {
  const parts = [content, summary].find((one) => Array.isArray(one) && one.length > 0) as
    | { text?: unknown }[]
    | undefined;
  return (parts ?? []).map(({ text }) => String(text ?? '')).join('\n');
}

/** Reasoning, text and calls that follow each other are one turn of the assistant. */
function joined(messages: readonly ClientMessage[]): ClientMessage[] {
  const turns: ClientMessage[] = [];
  for (const message of messages) {
    const last = turns.at(-1);
    const isOneTurn =
      message.role === 'assistant' && last?.role === 'assistant' && !(last.content && message.content);
    if (!isOneTurn) turns.push(message);
    else
      turns[turns.length - 1] = {
        ...last,
        ...message,
        content: message.content ?? last.content,
        [AT]: (message.content === undefined ? last : message)[AT] as string,
        tool_calls: [...(last.tool_calls ?? []), ...(message.tool_calls ?? [])],
      };
  }
  return turns;
}
