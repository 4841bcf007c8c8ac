import { didYouMean, expected, InputError, show, TokenizerError } from '../errors.ts';
import type { ChatTemplate } from './chat-template.ts';

/** A part of a turn. What else belongs to it, such as the bounds of a picture, stands beside. */
export type ContentPart =
  | { type: 'text'; text: string; [field: string]: unknown }
  | { type: 'image'; image?: unknown; [field: string]: unknown }
  | { type: 'image_url'; image_url: string | { url: string }; [field: string]: unknown }
  | { type: 'video'; video?: unknown; [field: string]: unknown }
  | { [field: string]: unknown };

/** One turn of a conversation. Templates read `role`, `content` and whatever else they define (`tool_calls`, …). */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | 'tool' | (string & Record<never, never>);
  /** Text, or a list of parts such as `{ type: 'text', text }` and, for multimodal templates, `{ type: 'image' }`. */
  content?: string | readonly ContentPart[] | null | undefined;
  [field: string]: unknown;
}

type Content = ChatMessage['content'];
type Part = Record<string, unknown>;

/** Kinds of parts, and the field that names the kind of a part without `type`. */
const PART_TYPES = [
  'text',
  'image',
  'image_url',
  'video',
  'video_url',
  'audio',
  'audio_url',
  'input_audio',
] as const;
/** Parts of messages as other libraries write them, and what they are here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  file: 'Pass a picture as { type: "image", image }, a text as { type: "text", text }',
  input_image: 'Pass a picture as { type: "image", image }',
  input_text: 'Pass a text as { type: "text", text }',
  output_text: 'Pass a text as { type: "text", text }',
  reasoning: "Pass reasoning as the message's reasoning_content",
  refusal: 'Pass a text as { type: "text", text }',
  'tool-call':
    'Pass calls as the message\'s tool_calls: [{ type: "function", function: { name, arguments } }]',
  'tool-result': 'Pass a result as a message { role: "tool", content }',
};
/** Fields of a turn that says something without `content`. */
const INSTEAD_OF_CONTENT = [
  'tool_calls',
  'function_call',
  'reasoning_content',
  'reasoning',
  'tool_responses',
];

/**
 * Checks a conversation before a template sees it.
 *
 * @throws {InputError} by index and field: a message without role or content, content that is neither text nor a list
 * of parts, a part of a kind that no template knows.
 */
export function checkMessages(messages: unknown): asserts messages is readonly ChatMessage[] {
  if (!Array.isArray(messages))
    throw new InputError(expected('messages', messages, 'a list of { role, content }'));
  if (messages.length === 0) throw new InputError(expected('messages', messages, 'at least one message'));
  messages.forEach((message: unknown, i) => {
    if (!isObject(message)) {
      throw new InputError(
        `${expected(`messages[${i}]`, message, 'an object with role and content')}. Pass one conversation a call`,
      );
    }
    if (typeof message.role !== 'string' || message.role === '') {
      throw new InputError(expected(`messages[${i}].role`, message.role, 'a text such as "user"'));
    }
    checkContent(message, `messages[${i}].content`);
  });
}

/** @throws {InputError} tools or documents are no lists of objects. */
export function checkObjects(list: unknown, name: string): void {
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) throw new InputError(expected(name, list, 'a list of objects'));
  list.forEach((item: unknown, i) => {
    if (!isObject(item)) throw new InputError(expected(`${name}[${i}]`, item, 'an object'));
  });
}

function checkContent(message: Part, where: string): void {
  const { content } = message;
  if (typeof content === 'string') return;
  if (Array.isArray(content)) {
    content.forEach((part: unknown, i) => {
      checkPart(part, `${where}[${i}]`);
    });
    return;
  }
  const isMissing = content === undefined || content === null;
  if (isMissing && INSTEAD_OF_CONTENT.some((field) => message[field] !== undefined)) return;
  throw new InputError(expected(where, content, 'a text, or a list of parts such as { type: "text", text }'));
}

function checkPart(part: unknown, where: string): void {
  if (!isObject(part)) throw new InputError(expected(where, part, 'a part such as { type: "text", text }'));
  const type = typeOf(part);
  if (type === undefined) {
    const given = part.type === undefined ? expected(where, part, 'an object with type, one of') : undefined;
    const hint = Object.hasOwn(ELSEWHERE, String(part.type)) ? `. ${ELSEWHERE[String(part.type)]}` : '';
    throw new InputError(
      `${given ?? expected(`${where}.type`, part.type, 'one of')} ${PART_TYPES.join(', ')}${hint}`,
    );
  }
  if (type === 'text' && typeof part.text !== 'string') {
    throw new InputError(expected(`${where}.text`, part.text, 'a text'));
  }
}

function typeOf(part: Part): (typeof PART_TYPES)[number] | undefined {
  return PART_TYPES.find((type) => (part.type === undefined ? type in part : part.type === type));
}

/**
 * The conversation as a template can read it. Templates of text models add strings: where a template cannot read
 * lists of parts, their texts are joined, without anything between, as multimodal templates do.
 *
 * @throws {InputError} a list has a part that is no text, for a template that reads text only; a role that the template passes over.
 */
export function forTemplate(
  messages: readonly ChatMessage[],
  template: ChatTemplate,
  variables: Readonly<Record<string, unknown>>,
): ChatMessage[] {
  for (const [i, { role }] of messages.entries())
    if (!ROLES.includes(role) && !prints(template, messages, i, variables))
      throw new InputError(
        `messages[${i}].role is ${show(role)}, whose messages the chat template leaves out; expected ${ROLES.join(', ')}${didYouMean(role, ROLES)}`,
      );
  const reads = new Map<string, boolean>();
  return messages.map((message, i) => {
    const { content, role } = message;
    if (!Array.isArray(content)) return message;
    const readsParts = reads.get(role) ?? canReadParts(template, role, variables);
    reads.set(role, readsParts);
    if (readsParts) return message;
    const texts = content.map((part: Part, j) => {
      if (typeOf(part) === 'text') return part.text as string;
      throw new InputError(
        `messages[${i}].content[${j}] is of type ${show(part.type ?? typeOf(part))}, but the chat template takes text ` +
          `only for the role ${show(role)}: leave the part out, or use a model that takes such input.`,
      );
    });
    return { ...message, content: texts.join('') };
  });
}

/**
 * For a model that takes text only, whatever its template can read.
 *
 * @throws {InputError} a message has a part that is no text.
 */
export function assertTexts(messages: readonly ChatMessage[], remedy: string): void {
  for (const [i, { content }] of messages.entries()) {
    if (!Array.isArray(content)) continue;
    const at = content.findIndex((part: Part) => typeOf(part) !== 'text');
    if (at === -1) continue;
    const part = content[at] as Part;
    throw new InputError(
      `messages[${i}].content[${at}] is of type ${show(part.type ?? typeOf(part))}, but the model was opened for text alone: ${remedy}`,
    );
  }
}

/** Those that templates are made for. */
const ROLES: readonly string[] = ['system', 'user', 'assistant', 'tool'];

const PROBE = 'Text of a part 5f0c';
const QUESTION: ChatMessage = { role: 'user', content: 'question' };
const CALL: ChatMessage = {
  role: 'assistant',
  content: '',
  tool_calls: [{ id: 'call00000', type: 'function', function: { name: 'f', arguments: {} } }],
};

/** Whether the text of a message shows in what the template makes of the conversation, or the template says itself what it refuses. */
function prints(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  index: number,
  variables: Readonly<Record<string, unknown>>,
): boolean {
  const probe = { ...(messages[index] as ChatMessage), content: PROBE };
  try {
    return template.render({ ...variables, messages: messages.with(index, probe) }).includes(PROBE);
  } catch (error) {
    if (error instanceof TokenizerError) return true;
    throw error;
  }
}

/** Whether the template makes of a list of one text part what it makes of that text. */
function canReadParts(
  template: ChatTemplate,
  role: string,
  variables: Readonly<Record<string, unknown>>,
): boolean {
  const conversation = (content: Content): ChatMessage[] => {
    if (role === 'system' || role === 'developer') return [{ role, content }, QUESTION];
    if (role === 'assistant') return [QUESTION, { role, content }, QUESTION];
    return role === 'tool'
      ? [QUESTION, CALL, { role, content, tool_call_id: 'call00000' }]
      : [{ role, content }];
  };
  const render = (content: Content) => {
    try {
      return template.render({ ...variables, messages: conversation(content) });
    } catch (error) {
      if (error instanceof TokenizerError) return undefined;
      throw error;
    }
  };
  const text = render(PROBE);
  return text?.includes(PROBE) === true && render([{ type: 'text', text: PROBE }]) === text;
}

// What marks the end of the last message in the rendered text: with a space after it, to see whether spaces are kept.
const END_MARK = 'END_OF_FINAL_MESSAGE_7e1b ';

/**
 * Renders a conversation whose last message is left open, for the model to go on with: the text ends where that
 * message ends.
 *
 * Source: transformers `utils/chat_template_utils.py`, `render_jinja_template`.
 *
 * @throws {InputError} the last message has no text, or the template does not print it.
 */
export function renderOpen(
  messages: readonly ChatMessage[],
  render: (messages: readonly ChatMessage[]) => string,
): string {
  const last = messages.at(-1) as ChatMessage;
  const marked = withMark(last.content);
  const rendered =
    marked === undefined ? '' : render([...messages.slice(0, -1), { ...last, content: marked }]);
  const at = rendered.lastIndexOf(END_MARK.trim());
  if (at === -1) {
    throw new InputError(
      'continueFinalMessage needs a last message whose text the chat template prints unchanged; ' +
        `this one is ${show(last.content)}.`,
    );
  }
  const text = rendered.slice(0, at);
  // A template that trims the message would have trimmed the spaces before the mark too.
  return rendered.startsWith(END_MARK, at) ? text : text.trimEnd();
}

/** The content with the mark behind its text, or behind the last of its texts; undefined where it has none. */
function withMark(content: Content): Content {
  if (typeof content === 'string') return content.trim() === '' ? undefined : content + END_MARK;
  if (!Array.isArray(content)) return undefined;
  const at = content.findLastIndex((part: Part) => typeof part.text === 'string');
  if (at === -1) return undefined;
  const part = content[at] as Part;
  return content.with(at, { ...part, text: part.text + END_MARK });
}

function isObject(value: unknown): value is Part {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
