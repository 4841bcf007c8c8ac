import type {
  LanguageModelV3FilePart,
  LanguageModelV3Message,
  LanguageModelV3Prompt,
  LanguageModelV3ToolResultOutput,
} from '@ai-sdk/provider';
import { expected, InputError } from '../errors.ts';
import type { ChatMessage } from '../index.ts';

type Message<Role extends LanguageModelV3Message['role']> = Extract<LanguageModelV3Message, { role: Role }>;
type AssistantPart = Message<'assistant'>['content'][number];

/**
 * A prompt of the AI SDK as chat templates want it.
 * @throws InputError for files that are no pictures, and for results of tools that are no text
 */
export function messagesOf(prompt: LanguageModelV3Prompt): ChatMessage[] {
  return prompt.flatMap(turnsOf);
}

function turnsOf(message: LanguageModelV3Message): ChatMessage[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user':
      return [userMessage(message)];
    case 'assistant':
      return [assistantMessage(message)];
    case 'tool':
      return message.content.flatMap((part) =>
        part.type === 'tool-result'
          ? [
              {
                role: 'tool',
                name: part.toolName,
                tool_call_id: part.toolCallId,
                content: resultText(part.output),
              },
            ]
          : [],
      );
  }
}

function userMessage({ content }: Message<'user'>): ChatMessage {
  const parts = content.map((part) =>
    part.type === 'text' ? { type: 'text', text: part.text } : pictureOf(part),
  );
  // Templates of text models may know texts only.
  const isText = content.every(({ type }) => type === 'text');
  return { role: 'user', content: isText ? textOf(content) : parts };
}

function pictureOf({ data, mediaType }: LanguageModelV3FilePart) {
  if (!mediaType.startsWith('image/'))
    throw new InputError(expected('prompt: the media type of a file', mediaType, 'a picture, image/…'));
  const isBase64 = typeof data === 'string' && !/^(?:data|https?):/.test(data);
  return { type: 'image', image: isBase64 ? Buffer.from(data, 'base64') : data };
}

function assistantMessage({ content }: Message<'assistant'>): ChatMessage {
  const calls = content.filter((part) => part.type === 'tool-call');
  const reasoning = textOf(content.filter((part) => part.type === 'reasoning'));
  return {
    role: 'assistant',
    content: textOf(content.filter((part) => part.type === 'text')),
    ...(reasoning !== '' && { reasoning_content: reasoning }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ toolCallId: id, toolName: name, input }) => ({
        id,
        type: 'function',
        function: { name, arguments: input },
      })),
    }),
  };
}

function textOf(parts: readonly (AssistantPart | Message<'user'>['content'][number])[]): string {
  return parts.map((part) => ('text' in part ? part.text : '')).join('');
}

function resultText(output: LanguageModelV3ToolResultOutput): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The execution of this tool was denied.';
    case 'content':
      return output.value
        .map((part) => {
          if (part.type === 'text') return part.text;
          throw new InputError(expected('prompt: a part of the result of a tool', part.type, 'text'));
        })
        .join('\n');
  }
}
