import { randomUUID } from 'node:crypto';
import {
  AIMessage,
  AIMessageChunk,
  type AIMessageChunkFields,
  type UsageMetadata,
} from '@langchain/core/messages';
import type { AnswerEnd, AnswerEvent } from '../server/answer.ts';

const newCallId = () => `call_${randomUUID()}`;

/** A whole answer as a message. What is called with arguments that are no JSON object is no call that could be made. */
export function messageOf(end: AnswerEnd, modelName: string): AIMessage {
  const { content, reasoning_content, tool_calls = [] } = end.message;
  const calls = tool_calls.map(({ function: { name, arguments: args } }) => ({
    id: newCallId(),
    name,
    args,
  }));
  return new AIMessage({
    content,
    additional_kwargs: { ...(reasoning_content !== undefined && { reasoning_content }) },
    tool_calls: calls.flatMap(({ args, ...call }) =>
      typeof args === 'string' ? [] : [{ ...call, args, type: 'tool_call' as const }],
    ),
    invalid_tool_calls: calls.flatMap(({ args, ...call }) =>
      typeof args === 'string'
        ? [{ ...call, args, error: 'the arguments are no JSON object', type: 'invalid_tool_call' as const }]
        : [],
    ),
    usage_metadata: usageOf(end),
    response_metadata: metadataOf(end, modelName),
  });
}

type ToolCallChunks = NonNullable<AIMessageChunkFields['tool_call_chunks']>;

/** An answer as pieces of one message, which LangChain adds up; the last one says how it ended. */
export async function* chunksOf(
  events: AsyncIterable<AnswerEvent>,
  modelName: string,
): AsyncGenerator<AIMessageChunk, void, undefined> {
  const id = `run-${randomUUID()}`;
  const chunk = (fields: AIMessageChunkFields) => new AIMessageChunk({ id, ...fields });
  const called = (call: ToolCallChunks[number]) =>
    chunk({ content: '', tool_call_chunks: [{ ...call, type: 'tool_call_chunk' }] });
  for await (const event of events) {
    switch (event.type) {
      case 'content':
        yield chunk({ content: event.text });
        break;
      case 'reasoning':
        yield chunk({ content: '', additional_kwargs: { reasoning_content: event.text } });
        break;
      case 'tool_call':
        yield called({ index: event.index, id: newCallId(), name: event.name, args: '' });
        break;
      case 'tool_call_arguments':
        yield called({ index: event.index, args: event.text });
        break;
      case 'end':
        yield chunk({
          content: '',
          usage_metadata: usageOf(event),
          response_metadata: metadataOf(event, modelName),
        });
    }
  }
}

type UsageField = NonNullable<AIMessageChunkFields['usage_metadata']>;

function usageOf({ usage }: AnswerEnd): UsageField {
  const { promptTokens, cachedTokens, newTokens, reasoningTokens } = usage;
  const told: UsageMetadata = {
    input_tokens: promptTokens,
    output_tokens: newTokens,
    total_tokens: promptTokens + newTokens,
    input_token_details: { cache_read: cachedTokens },
    output_token_details: { reasoning: reasoningTokens },
  };
  // Where optional properties are exact, LangChain's type of the field is `never`.
  return told as UsageField;
}

function metadataOf({ finish, stop, logprobs }: AnswerEnd, modelName: string) {
  return {
    model_provider: 'switchyard',
    model_name: modelName,
    finish_reason: finish,
    ...(stop !== undefined && { stop }),
    ...(logprobs && { logprobs }),
  };
}
