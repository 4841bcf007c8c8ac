import { expected, InputError } from '../errors.ts';
import { isRecord } from '../options.ts';
import type { ChatMessage } from '../tokenizer/conversation.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** What to continue, instead of `inputIds`: a text, or a conversation. */
export interface PromptOptions {
  /** A text to continue, or several. */
  prompt?: string | readonly string[] | undefined;
  /**
   * With `guidanceScale`, in place of `negativePromptIds`: a text, or one for each row, that the answer is to lead away from. With `messages` it
   * is a message of the user, laid out as these are.
   */
  negativePrompt?: string | readonly string[] | undefined;
  /** A conversation to answer, laid out by the model's chat template. */
  messages?: readonly ChatMessage[] | undefined;
  /** Documents for templates that take them. With `messages`. */
  documents?: readonly unknown[] | undefined;
  /** Leaves the last message open, for the model to go on with. With `messages`. Default false. */
  continueFinalMessage?: boolean | undefined;
  /** The name of one of the tokenizer's templates. With `messages`. */
  chatTemplate?: string | undefined;
  /** Variables of the template, such as `{ enable_thinking: false }`. With `messages`. */
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
}

const CHAT_OPTIONS = [
  ...(['documents', 'continueFinalMessage', 'chatTemplate', 'templateArguments'] as const),
] satisfies (keyof PromptOptions)[];
/** What `templateArguments` would lose against. */
const OWN_OPTIONS = ['messages', 'tools', 'documents', 'continueFinalMessage', 'chatTemplate'] as const;
export const PROMPT_OPTIONS: readonly (keyof PromptOptions)[] = [
  'prompt',
  'negativePrompt',
  'messages',
  ...CHAT_OPTIONS,
];

/** How conversations are rendered. */
export interface RenderOptions
  extends Omit<PromptOptions, 'prompt' | 'messages' | 'templateArguments' | 'continueFinalMessage'> {
  readonly tools: readonly unknown[] | undefined;
  readonly addGenerationPrompt: boolean;
  readonly continueFinalMessage: boolean;
  readonly signal: AbortSignal | undefined;
  readonly [templateArgument: string]: unknown;
}

/** Inputs of a model as a tokenizer or processor makes them. */
export interface PromptInputs {
  readonly inputIds: number[][];
  readonly attentionMask: number[][];
}

/** Makes inputs of texts and conversations, with what belongs to the model's repo. */
export interface PromptReader {
  /** The tokenizer, where it has been loaded. */
  readonly tokenizer: Tokenizer | undefined;
  /** Loads the tokenizer, once. @throws HubError; TokenizerError */
  loadTokenizer(): Promise<Tokenizer>;
  /** @throws InputError for texts with words that the model would not read as such */
  assertWords(texts: Readonly<Record<string, unknown>>): void;
  /** Inputs of a conversation, one row, with its pictures where the model sees. */
  readMessages(
    messages: readonly ChatMessage[],
    options: RenderOptions,
    tokenizer: Tokenizer,
  ): Promise<PromptInputs>;
}

/**
 * Where the prompt of a call stands: ids, text or messages.
 * @param prepared options that come with ids, as a tokenizer or processor makes them
 * @throws InputError for none, several, or what does not belong to it
 */
export function promptKind(
  options: PromptOptions & { inputIds?: unknown },
  prepared: readonly string[],
  where: string,
) {
  const kinds = (['inputIds', 'prompt', 'messages'] as const).filter((name) => options[name] !== undefined);
  const [kind] = kinds;
  if (kind === undefined || kinds.length > 1)
    throw new InputError(
      kind === undefined
        ? `${where} has nothing to continue; expected inputIds, prompt or messages`
        : `${where}: ${kinds.join(' and ')} exclude each other; give one of them`,
    );
  const stray = CHAT_OPTIONS.find((name) => kind !== 'messages' && options[name] !== undefined);
  if (stray !== undefined)
    throw new InputError(`${where}: ${stray} belongs to messages, but ${kind} is given`);
  const given: Readonly<Record<string, unknown>> = { ...options };
  const unread = prepared.find((name) => kind !== 'inputIds' && (given[name] ?? undefined) !== undefined);
  if (unread !== undefined)
    throw new InputError(
      `${where}: ${unread} belongs to inputIds, but ${kind} is given, of which the model makes its own. Leave ${unread} out, or give inputIds`,
    );
  return kind;
}

type ReadOptions = PromptOptions & {
  tools?: readonly unknown[] | undefined;
  signal?: AbortSignal | undefined;
};

/** Inputs of the text or conversation of a call. */
export async function readPrompt(
  options: ReadOptions,
  reader: PromptReader,
  tokenizer: Tokenizer,
): Promise<PromptInputs> {
  const { prompt, messages, templateArguments = {}, signal } = options;
  if (prompt !== undefined) {
    const texts = checkTexts(prompt, 'prompt');
    reader.assertWords({ prompt: texts });
    return encoded([texts].flat(), tokenizer, signal);
  }
  if (!isRecord(templateArguments))
    throw new InputError(expected('templateArguments', templateArguments, 'an object of template variables'));
  const own = OWN_OPTIONS.find((name) => templateArguments[name] !== undefined);
  if (own !== undefined)
    throw new InputError(
      `templateArguments: ${own} is no variable of the template, but an option by itself. Give it beside templateArguments`,
    );
  const { tools, documents, chatTemplate, continueFinalMessage = false } = options;
  if (typeof continueFinalMessage !== 'boolean')
    throw new InputError(expected('continueFinalMessage', continueFinalMessage, 'true or false'));
  const render = { tools, documents, chatTemplate, continueFinalMessage, signal };
  const settings = { ...templateArguments, ...render, addGenerationPrompt: !continueFinalMessage };
  return reader.readMessages(messages as readonly ChatMessage[], settings, tokenizer);
}

/** Ids of the texts that an answer is to lead away from, a row each. */
export async function readNegativePrompt(
  options: ReadOptions,
  reader: PromptReader,
  tokenizer: Tokenizer,
): Promise<number[][]> {
  const texts = [checkTexts(options.negativePrompt, 'negativePrompt')].flat();
  if (options.messages === undefined) return encodeAll(texts, tokenizer, options.signal);
  const rows: number[][] = [];
  for (const content of texts) {
    const messages = [{ role: 'user', content }];
    const { inputIds } = await readPrompt(
      { ...options, messages, continueFinalMessage: false },
      reader,
      tokenizer,
    );
    for (const row of inputIds) rows.push(row);
  }
  return rows;
}

/** Texts as rows of one length; long ones leave the event loop free. @throws AbortError */
async function encoded(
  texts: readonly string[],
  tokenizer: Tokenizer,
  signal: AbortSignal | undefined,
): Promise<PromptInputs> {
  return tokenizer.pad(await encodeAll(texts, tokenizer, signal));
}

async function encodeAll(
  texts: readonly string[],
  tokenizer: Tokenizer,
  signal: AbortSignal | undefined,
): Promise<number[][]> {
  const rows: number[][] = [];
  for (const text of texts) rows.push(await tokenizer.encodeAsync(text, signal ? { signal } : {}));
  return rows;
}

function checkTexts(given: unknown, name: string): string | string[] {
  const texts = Array.isArray(given) ? given : [given];
  const faulty = texts.findIndex((text) => typeof text !== 'string' || text === '');
  if (texts.length > 0 && faulty === -1) return given as string | string[];
  throw new InputError(
    expected(
      name,
      texts.length > 0 ? texts[faulty] : given,
      'a text, or a list of texts, none of them empty',
    ),
  );
}
