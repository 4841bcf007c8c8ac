import { addAbortSignal, type Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { InputError } from '../errors.ts';
import type { Processor, ProcessorOutput, Tokenizer } from '../index.ts';
import { type Io, UsageError } from './io.ts';

/** What to continue: running text, a message to answer, or a batch of raw token ids. */
export type Prompt =
  | (({ text: string } | { chat: string }) & { images: readonly string[] })
  | { ids: number[][] };

export interface PromptFlags {
  prompt?: string;
  chat?: string;
  inputIds?: number[][];
  /** Paths and URLs of pictures that belong to the prompt. */
  image?: string[];
}

/**
 * The one prompt the command line gives, or stdin.
 *
 * @throws UsageError for several, an empty one, or a terminal as stdin; InputError for empty stdin
 */
export async function readPrompt(flags: PromptFlags, stdin: Io['stdin'], stop: AbortSignal): Promise<Prompt> {
  const given = [
    flags.prompt !== undefined && '--prompt',
    flags.chat !== undefined && '--chat',
    flags.inputIds !== undefined && '--input-ids',
  ].filter(Boolean);
  if (given.length > 1) throw new UsageError(`${given.join(' and ')} exclude each other; give one of them`);
  const images = flags.image ?? [];
  if (flags.inputIds && images.length > 0)
    throw new UsageError('--image and --input-ids exclude each other; give the prompt as --prompt or --chat');
  if (flags.inputIds) return { ids: flags.inputIds };
  if (flags.chat === '' || flags.prompt === '')
    throw new UsageError(`${given[0]} is empty; give it some text`);
  if (flags.chat !== undefined) return { chat: flags.chat, images };
  if (flags.prompt !== undefined) return { text: flags.prompt, images };
  if (stdin.isTTY) {
    throw new UsageError(
      'there is nothing to continue; give --prompt, --chat or --input-ids, or pipe a prompt in',
    );
  }
  const piped = await readText(addAbortSignal(stop, stdin));
  if (piped === '')
    throw new InputError('stdin is empty; pipe a prompt in, or give --prompt, --chat or --input-ids');
  return { text: piped, images };
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
  return tokenizer.applyChatTemplate([{ role: 'user', content: prompt.chat }], { addGenerationPrompt: true });
}

/** Inputs of a prompt with pictures. They come before the text, unless the text says where. */
export async function encodeWithImages(
  prompt: Exclude<Prompt, { ids: number[][] }>,
  processor: Processor,
  signal: AbortSignal,
): Promise<ProcessorOutput> {
  const { images } = prompt;
  if ('chat' in prompt) {
    const content = [...images.map(() => ({ type: 'image' })), { type: 'text', text: prompt.chat }];
    return processor.applyChatTemplate([{ role: 'user', content }], {
      images,
      addGenerationPrompt: true,
      signal,
    });
  }
  const isMarked = prompt.text.includes(processor.imageToken);
  const text = isMarked ? prompt.text : processor.imageMark.repeat(images.length) + prompt.text;
  return processor({ text, images, signal });
}

/** Rows of one length; the mask hides the filler, so any id will do. */
function padLeft(rows: readonly (readonly number[])[]): Batch {
  const width = Math.max(...rows.map((row) => row.length));
  const fill = (row: readonly number[]) => new Array<number>(width - row.length).fill(0);
  return {
    inputIds: rows.map((row) => [...fill(row), ...row]),
    attentionMask: rows.map((row) => [...fill(row), ...row.map(() => 1)]),
  };
}
