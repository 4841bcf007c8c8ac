import { AIMessage, type BaseMessage, ToolMessage } from '@langchain/core/messages';
import { expected, InputError } from '../errors.ts';
import type { ChatMessage } from '../index.ts';

type Part = Readonly<Record<string, unknown>>;

const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  ai: 'assistant',
  system: 'system',
  developer: 'system',
  tool: 'tool',
  function: 'tool',
};

/** Parts of an answer that stand elsewhere in the message. */
const BESIDE = ['reasoning', 'thinking', 'tool_call', 'tool_call_chunk', 'tool_use'];

/**
 * Messages of LangChain as chat templates want them.
 * @throws InputError for content that is neither text nor a picture
 */
export function messagesOf(messages: readonly BaseMessage[]): ChatMessage[] {
  return messages.map((message, i) => {
    const type = message.getType();
    // A generic message says its role itself.
    const role = type === 'generic' ? (message as BaseMessage & { role: string }).role : ROLES[type];
    if (role === undefined) throw new InputError(expected(`messages[${i}]: the type`, type, 'human, ai, …'));
    const isTool = ToolMessage.isInstance(message);
    return {
      role,
      content: contentOf(message.content as string | readonly Part[], `messages[${i}].content`),
      ...(isTool && { tool_call_id: message.tool_call_id }),
      ...(isTool && message.name !== undefined && { name: message.name }),
      ...(AIMessage.isInstance(message) && partsOfAnswer(message)),
    };
  });
}

function partsOfAnswer({ tool_calls: calls = [], additional_kwargs: { reasoning_content } }: AIMessage) {
  return {
    ...(typeof reasoning_content === 'string' && reasoning_content !== '' && { reasoning_content }),
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ id, name, args }) => ({
        ...(id !== undefined && { id }),
        type: 'function',
        function: { name, arguments: args },
      })),
    }),
  };
}

function contentOf(content: string | readonly Part[], path: string): string | Part[] {
  if (typeof content === 'string') return content;
  const parts = content
    .filter(({ type }) => !BESIDE.includes(type as string))
    .map((part, i) => partOf(part, `${path}[${i}]`));
  // Templates of text models may know texts only.
  return parts.every(({ type }) => type === 'text') ? parts.map(({ text }) => text).join('') : parts;
}

function partOf(part: Part, path: string): Part {
  if (part.type === 'text') return { type: 'text', text: part.text };
  if (part.type === 'image_url') {
    const { image_url: image } = part;
    return { type: 'image', image: typeof image === 'string' ? image : (image as Part)?.url };
  }
  // Blocks of LangChain 1, and before it, say the kind of the source, too.
  if (part.type === 'image' && typeof part.url === 'string') return { type: 'image', image: part.url };
  if (part.type === 'image' && part.data !== undefined)
    return {
      type: 'image',
      image: typeof part.data === 'string' ? Buffer.from(part.data, 'base64') : part.data,
    };
  throw new InputError(expected(`${path}.type`, part.type, 'text, image_url, or an image with url or data'));
}
