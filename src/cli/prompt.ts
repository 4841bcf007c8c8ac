import { fstatSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { addAbortSignal, type Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { typedPlaceholder } from '../auto/prompt-reader.ts';
import { InputError } from '../errors.ts';
import { whyUnreadable } from '../files.ts';
import type { ChatMessage, Processor, ProcessorOutput, Tokenizer } from '../index.ts';
import { type Io, UsageError } from './io.ts';

/** What to continue: running text, a conversation, or a batch of raw token ids. */
export type Prompt =
  | (({ text: string } | { messages: readonly ChatMessage[]; thinks: boolean }) & {
      images: readonly string[];
      sounds: readonly string[];
    })
  | { ids: number[][] };

/** What may be the prompt, each as it stands on the command line. */
export interface PromptFlags {
  /** Given without an option. */
  words?: string;
  prompt?: string;
  promptFile?: string;
  chat?: string;
  inputIds?: number[][];
  /** What the model is told before the message. */
  system?: string;
  /** False with `--no-think`. */
  think?: boolean;
  /** Paths and URLs of pictures that belong to the prompt. */
  image?: string[];
  /** And of sounds. */
  audio?: string[];
}

/**
 * The one prompt the command line gives, with what is piped in behind it, or what is piped in alone.
 *
 * @throws UsageError for several, an empty one, a terminal as stdin, or empty stdin; InputError for a file that cannot be read
 */
export async function readPrompt(flags: PromptFlags, stdin: Io['stdin'], stop: AbortSignal): Promise<Prompt> {
  checkPrompt(flags);
  const media = { images: flags.image ?? [], sounds: flags.audio ?? [] };
  if (flags.inputIds) return { ids: flags.inputIds };
  const given = flags.chat ?? flags.prompt ?? flags.words ?? (await promptOfFile(flags.promptFile));
  const text = given === undefined ? await piped(stdin, stop) : await withPiped(given, stdin, stop);
  if (!speaks(flags)) return { text, ...media };
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return { messages: [...system, { role: 'user', content: text }], thinks: flags.think ?? true, ...media };
}

/** Whether the text is a message for the chat template. `--chat` without a text takes what is piped in. */
function speaks({ chat, system, think }: PromptFlags): boolean {
  return chat !== undefined || system !== undefined || think === false;
}

function checkPrompt(flags: PromptFlags): void {
  const given = [
    flags.words !== undefined && 'a prompt without an option',
    flags.prompt !== undefined && '--prompt',
    flags.promptFile !== undefined && '--prompt-file',
    flags.chat !== undefined && '--chat',
    flags.inputIds !== undefined && '--input-ids',
  ].filter((name) => name !== false);
  if (given.length > 1) throw new UsageError(`${given.join(' and ')} exclude each other; give one of them`);
  if (flags.inputIds) {
    const media = flags.image ? '--image' : flags.audio ? '--audio' : undefined;
    if (media)
      throw new UsageError(
        `${media} and --input-ids exclude each other; give the prompt as --prompt or --chat`,
      );
    const stray = flags.system !== undefined ? '--system' : flags.think === false ? '--no-think' : undefined;
    if (stray) throw new UsageError(`${stray} belongs to a message, but --input-ids are given`);
  }
  if (flags.chat === '' || flags.prompt === '' || flags.words === '')
    throw new UsageError(`${given[0]} is empty; give it some text`);
}

async function promptOfFile(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const content = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new InputError(`--prompt-file ${file} cannot be read: ${whyUnreadable(error)}`, { cause: error });
  });
  const prompt = content.replace(/\r?\n$/, '');
  if (prompt === '') throw new InputError(`--prompt-file ${file} is empty; put some text into it`);
  return prompt;
}

async function piped(stdin: Io['stdin'], stop: AbortSignal): Promise<string> {
  if (stdin.isTTY) {
    throw new UsageError(
      'there is nothing to continue; give a prompt, --chat or --input-ids, or pipe a prompt in',
    );
  }
  const text = await readText(addAbortSignal(stop, stdin));
  if (text === '')
    throw new UsageError('stdin is empty; pipe a prompt in, or give a prompt, --chat or --input-ids');
  return text;
}

/** The prompt, and behind an empty line what is piped in beside it. */
async function withPiped(prompt: string, stdin: Io['stdin'], stop: AbortSignal): Promise<string> {
  if (!isPipe(stdin)) return prompt;
  const text = await readText(addAbortSignal(stop, stdin));
  return text === '' ? prompt : `${prompt}\n\n${text}`;
}

/**
 * Whether somebody pipes text in, as a shell does. What programs that start others hand over may stay open for ever without a word; that is
 * a socket, or the standard input that they have themselves.
 */
function isPipe(stdin: Io['stdin']): boolean {
  if (stdin.isTTY) return false;
  if (stdin.fd === undefined) return true;
  try {
    const stat = fstatSync(stdin.fd);
    return stat.isFIFO() || stat.isFile();
  } catch {
    return false;
  }
}

/** All of a stream. One newline at the end is the shell's, not the prompt's. */
async function readText(stream: Readable): Promise<string> {
  return (await text(stream)).replace(/\r?\n$/, '');
}

export interface Batch {
  inputIds: number[][];
  attentionMask: number[][];
}

/** Token ids of a prompt, padded on the left. */
export function encode(prompt: Prompt, tokenizer: Tokenizer | undefined): Batch {
  if ('ids' in prompt) return padLeft(prompt.ids);
  if (!tokenizer) throw new Error('a text prompt was read without a tokenizer');
  if ('text' in prompt) return tokenizer(prompt.text);
  return tokenizer.applyChatTemplate(prompt.messages, templateOptions(prompt));
}

/** Ids of what the answer is to lead away from: a message of the user, where the prompt is one. */
export function encodeNegative(text: string, prompt: Prompt, tokenizer: Tokenizer | undefined): number[][] {
  if ('ids' in prompt || !tokenizer)
    throw new UsageError('--negative-prompt is a text, but --input-ids are given; give the prompt as text');
  if (!('messages' in prompt)) return [tokenizer.encode(text)];
  const message = { role: 'user', content: text };
  return tokenizer.applyChatTemplate([message], templateOptions(prompt)).inputIds;
}

/**
 * Refuses placeholders among words that a model which sees would take for the place of a picture or sound. A text to continue may say where
 * those stand that come with it.
 * @param negative what the answer is to lead away from, which is words alone
 * @throws InputError that speaks of the command line
 */
export function refusePlaceholders(prompt: Prompt, negative?: string): void {
  if ('ids' in prompt) return;
  if ('messages' in prompt) {
    for (const { content } of prompt.messages) refusePlaceholder(String(content), 'message', true);
  } else if (prompt.images.length + prompt.sounds.length === 0) {
    refusePlaceholder(prompt.text, 'prompt', true);
  }
  if (negative !== undefined) refusePlaceholder(negative, 'negative prompt', false);
}

function refusePlaceholder(text: string, name: string, takesFiles: boolean): void {
  const found = typedPlaceholder(text);
  if (!found) return;
  const { token, kind } = found;
  const remedy = !takesFiles
    ? 'It takes words alone'
    : kind === 'video'
      ? 'The command line takes no videos'
      : `Give the file with --${kind}`;
  throw new InputError(
    `the ${name} holds ${token}, which the model reads as the place of ${NAMES[kind]}, not as words. ` +
      `${remedy}; what is meant as words, spell otherwise, such as ${token.replace('<|', '<| ')}`,
  );
}

const NAMES: Readonly<Record<string, string>> = { image: 'a picture', video: 'a video', audio: 'a sound' };

/** Inputs of a prompt with pictures and sounds. They come before the text, unless the text says where. */
export async function encodeWithMedia(
  prompt: Exclude<Prompt, { ids: number[][] }>,
  processor: Processor,
  signal: AbortSignal,
): Promise<ProcessorOutput> {
  const { images, sounds: audio } = prompt;
  if ('messages' in prompt) {
    const parts = [...images.map(() => ({ type: 'image' })), ...audio.map(() => ({ type: 'audio' }))];
    const messages = prompt.messages.map((message) =>
      message.role === 'user'
        ? { ...message, content: [...parts, { type: 'text', text: message.content }] }
        : message,
    );
    return processor.applyChatTemplate(messages, { images, audio, signal, ...templateOptions(prompt) });
  }
  const marks = (token: string, mark: string, count: number) =>
    prompt.text.includes(token) ? '' : mark.repeat(count);
  const text =
    marks(processor.imageToken, processor.imageMark, images.length) +
    marks(processor.audioToken, processor.audioMark, audio.length) +
    prompt.text;
  return processor({ text, images, audio, signal });
}

/** `enable_thinking` is what Qwen's templates call it; a template that does not know it is none that thinks. */
function templateOptions({ thinks }: { thinks: boolean }) {
  return { addGenerationPrompt: true, ...(!thinks && { enable_thinking: false }) } as const;
}

/** Rows of one length; the mask hides the filler, so any id will do. */
function padLeft(rows: readonly (readonly number[])[]): Batch {
  const width = rows.reduce((most, row) => Math.max(most, row.length), 0);
  const fill = (row: readonly number[]) => new Array<number>(width - row.length).fill(0);
  return {
    inputIds: rows.map((row) => [...fill(row), ...row]),
    attentionMask: rows.map((row) => [...fill(row), ...row.map(() => 1)]),
  };
}
