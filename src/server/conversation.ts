import type { ChatMessage } from '../index.ts';
import { badField } from './api-error.ts';
import { mayFetch } from './fetch-pictures.ts';

/** Of a message that a client has sent in another form: where its content stands there. */
export const AT = Symbol('the path of the content');

/** A message as clients send it. */
export interface ClientMessage {
  readonly [AT]?: string;
  readonly role: string;
  readonly content?: unknown;
  readonly tool_calls?:
    | readonly {
        readonly id?: string | undefined;
        readonly function: { readonly name: string; readonly arguments?: unknown };
      }[]
    | undefined;
  readonly [field: string]: unknown;
}

type Part = Readonly<Record<string, unknown>>;

/**
 * A conversation as chat templates want it: what the system says stands first, in one message; arguments of calls are objects; pictures are parts
 * that a processor reads, or the URL of one that is to be fetched.
 *
 * @param pictureHosts from where pictures may be fetched
 * @throws ApiError for content that no model here takes, and for pictures that lie elsewhere
 */
export function conversationOf(
  messages: readonly ClientMessage[],
  pictureHosts: readonly string[] = [],
): ChatMessage[] {
  const system: (string | Part[])[] = [];
  const others: ChatMessage[] = [];
  for (const [i, message] of messages.entries()) {
    const content = contentOf(message.content, message[AT] ?? `messages.${i}.content`, pictureHosts);
    if (message.role === 'system' || message.role === 'developer') {
      system.push(content);
      continue;
    }
    others.push(turnOf(message, content));
  }
  const said = together(system);
  return said.length === 0 ? others : [{ role: 'system', content: said }, ...others];
}

/** What system messages say, as one text where there are only texts, which templates of text models add. */
function together(contents: readonly (string | Part[])[]): string | Part[] {
  const isText = (part: Part) => part.type === 'text';
  if (contents.every((content) => typeof content === 'string' || content.every(isText))) {
    const texts = contents.map((content) =>
      typeof content === 'string' ? content : content.map((part) => part.text).join('\n'),
    );
    return texts.filter((text) => text !== '').join('\n\n');
  }
  const said = contents.filter((content) => content.length > 0);
  return said.flatMap((content, i) => {
    const parts = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
    return i === 0 ? parts : [{ type: 'text', text: '\n\n' }, ...parts];
  });
}

function turnOf(
  { role, tool_calls: calls, name, tool_call_id: id, ...rest }: ClientMessage,
  content: string | Part[],
): ChatMessage {
  const reasoning = [rest.reasoning_content, rest.reasoning].find((one) => typeof one === 'string');
  return {
    role: role === 'function' ? 'tool' : role,
    content,
    ...(name !== undefined && { name }),
    ...(id !== undefined && { tool_call_id: id }),
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(calls && calls.length > 0 && { tool_calls: calls.map(callOf) }),
  };
}

function callOf({
  id,
  function: { name, arguments: given },
}: NonNullable<ClientMessage['tool_calls']>[number]) {
  return {
    ...(id !== undefined && { id }),
    type: 'function',
    function: { name, arguments: argumentsOf(given) },
  };
}

/** Templates go through arguments by name; what is no JSON object stays the text it is. */
function argumentsOf(given: unknown): unknown {
  if (typeof given !== 'string') return given ?? {};
  try {
    const value: unknown = JSON.parse(given === '' ? '{}' : given);
    return typeof value === 'object' && value !== null ? value : given;
  } catch {
    return given;
  }
}

function contentOf(content: unknown, path: string, hosts: readonly string[]): string | Part[] {
  if (content === undefined || content === null) return '';
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw badField(path, 'expected a text or a list of parts');
  return content.map((part: unknown, i) => {
    if (typeof part !== 'object' || part === null)
      throw badField(`${path}.${i}`, 'expected a part, such as { type: "text", text }');
    return partOf(part as Part, `${path}.${i}`, hosts);
  });
}

function partOf(part: Part, path: string, hosts: readonly string[]): Part {
  switch (part.type) {
    case 'text':
    case 'input_text':
    case 'output_text':
      if (typeof part.text !== 'string') throw badField(`${path}.text`, 'expected a text');
      return { type: 'text', text: part.text };
    case 'refusal':
      return { type: 'text', text: String(part.refusal ?? '') };
    case 'image_url':
    case 'input_image': {
      const url =
        typeof part.image_url === 'string' ? part.image_url : (part.image_url as Part | undefined)?.url;
      return { type: 'image', image: pictureOf(url, path, hosts) };
    }
    default:
      throw badField(`${path}.type`, `${JSON.stringify(part.type)} is not taken; text and image_url are`);
  }
}

/** A data URL, or the address of a picture that may be fetched. */
function pictureOf(url: unknown, path: string, hosts: readonly string[]): string | URL {
  if (typeof url === 'string' && /^data:image\/[\w.+-]+;base64,/.test(url)) return url;
  if (typeof url === 'string' && URL.canParse(url) && mayFetch(new URL(url), hosts)) return new URL(url);
  const others =
    hosts.length === 0 ? 'this server fetches none' : `or from ${hosts.join(', ')} by http or https`;
  throw badField(path, `pictures are taken as data URLs (data:image/png;base64,…); ${others}`);
}

/** Names that mean something else to tokenizers and processors than a variable of a template: files to read, say. */
const RESERVED = [
  ...[
    'messages',
    'tools',
    'documents',
    'add_generation_prompt',
    'addGenerationPrompt',
    'continueFinalMessage',
  ],
  ...['tokenize', 'chatTemplate', 'images', 'videos', 'limits', 'signal', 'minPixels', 'maxPixels'],
];

/** `chat_template_kwargs`, checked. @throws ApiError for names that are no variables */
export function templateArguments(
  given: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> {
  const reserved = Object.keys(given).find((name) => RESERVED.includes(name));
  if (reserved !== undefined)
    throw badField(`chat_template_kwargs.${reserved}`, 'is no variable of a template');
  return given;
}
