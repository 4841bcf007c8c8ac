import { stat } from 'node:fs/promises';
import { CommanderError } from 'commander';
import { didYouMean } from '../../errors.ts';
import { whyUnreadable, whyUnwritable, writeWholeFile } from '../../files.ts';
import { expand } from '../../hub/environment.ts';
import {
  type CausalLM,
  type ChatMessage,
  ExpertsInterface,
  ImageTextToText,
  type ResponseDelta,
} from '../../index.ts';
import { type JsonKind, readJsonFile } from '../../json.ts';
import { loadImage } from '../../media/load-image.ts';
import { UsageError } from '../io.ts';
import { experts } from '../options.ts';
import { describeStats } from '../stats.ts';
import type { Conversation } from './conversation.ts';
import { REASONING_STYLES, type ReasoningStyle } from './reply-printer.ts';

/** What commands work on. */
export interface ChatState {
  readonly model: CausalLM | ImageTextToText;
  readonly conversation: Conversation;
  reasoning: ReasoningStyle;
  readonly loadSeconds: number;
  /** Files that this chat has saved to, and may write again. */
  readonly saved: Set<string>;
  /** Says something to the user. */
  note(text: string): void;
  /** Shows an answer. */
  show(answer: (signal: AbortSignal) => AsyncGenerator<ResponseDelta, void, undefined>): Promise<void>;
}

interface Command {
  readonly name: string;
  readonly takes: string;
  readonly says: string;
  readonly run: (state: ChatState, argument: string) => void | Promise<void>;
}

const COMMANDS: readonly Command[] = [
  { name: 'help', takes: '', says: 'this list', run: help },
  {
    name: 'experts',
    takes: '[NAME]',
    says: 'run the experts on another backend, or say which ones there are',
    run: setExperts,
  },
  {
    name: 'system',
    takes: '[TEXT]',
    says: 'what the model is told first, from now on; without TEXT, nothing',
    run: setSystem,
  },
  { name: 'image', takes: 'FILE', says: 'a picture, as path or URL, for the next message', run: addPicture },
  { name: 'retry', takes: '', says: 'answer the last message again', run: retry },
  { name: 'think', takes: 'on|off', says: 'whether the model reasons, where it can', run: setThinking },
  {
    name: 'reasoning',
    takes: 'show|fold|hide',
    says: 'what of the reasoning is shown',
    run: setReasoning,
  },
  { name: 'stats', takes: '', says: 'tokens, time and backends of the last answer', run: stats },
  { name: 'save', takes: 'FILE', says: 'write the conversation as JSON messages', run: save },
  { name: 'load', takes: 'FILE', says: 'go on from messages that were saved', run: load },
  { name: 'clear', takes: '', says: 'begin anew', run: clear },
];
/** The first is the one that /help lists; the others are what hands type that know other programs. */
const LEAVE: readonly string[] = ['bye', 'exit', 'quit'];

/** How each begins, for a terminal to complete. */
export function completions(line: string): string[] {
  const named = /^\/experts (\S*)$/.exec(line);
  if (named)
    return ExpertsInterface.choices()
      .filter((name) => name.startsWith(named[1] ?? ''))
      .map((name) => `/experts ${name}`);
  return [...COMMANDS.map(({ name }) => name), ...LEAVE]
    .map((name) => `/${name}`)
    .filter((word) => line.startsWith('/') && word.startsWith(line));
}

/**
 * Runs what a line beginning with `/` asks for.
 * @returns false where that is to leave
 * @throws UsageError for a command that there is not, and for what it cannot do
 */
export async function runCommand(line: string, state: ChatState): Promise<boolean> {
  const [, word = '', argument = ''] = /^\/(\S*)\s*([\s\S]*)$/.exec(line) ?? [];
  if (LEAVE.includes(word)) return false;
  const command = COMMANDS.find(({ name }) => name === word);
  if (!command) {
    const near = didYouMean(word, [...COMMANDS.map(({ name }) => name), ...LEAVE]);
    throw new UsageError(
      `there is no command /${word}; /help lists them, and // begins a message with /${near}`,
    );
  }
  if (argument !== '' && command.takes === '')
    throw new UsageError(`/${word} takes nothing, but ${JSON.stringify(argument)} follows it`);
  if (argument === '' && /^\w/.test(command.takes))
    throw new UsageError(`/${word} is to be followed by ${command.takes}`);
  await command.run(state, argument);
  return true;
}

function help({ note }: ChatState): void {
  const rows = [
    ...COMMANDS.map(({ name, takes, says }) => [`/${name} ${takes}`, says]),
    [`/${LEAVE[0]}, Ctrl-D`, 'leave'],
    ['"""', 'begins and ends a message of several lines; \\ at the end of a line goes on in the next'],
    ['Ctrl-C', 'stops an answer; what it has said stays'],
  ];
  note(rows.map(([what, says]) => `  ${what?.padEnd(26)}${says}`).join('\n'));
}

function setExperts({ model, note }: ChatState, spec: string): void {
  if (spec !== '') {
    try {
      model.setExpertsImplementation(experts(spec));
    } catch (error) {
      // What a command line is told, without its exit.
      if (error instanceof CommanderError) throw new UsageError(error.message, { cause: error });
      throw error;
    }
  }
  const now = Object.entries(model.getExpertsImplementation()).map(([key, name]) =>
    key === '' ? name : `${key}=${name}`,
  );
  const names = spec === '' ? `; there are ${ExpertsInterface.choices().join(', ')}` : '';
  note(`experts: ${now.join(', ')}${names}`);
}

function setSystem({ conversation, note }: ChatState, text: string): void {
  conversation.settings.system = text === '' ? undefined : text;
  note(text === '' ? 'the model is told nothing first' : `the model is told first: ${text}`);
}

async function addPicture({ model, conversation, note }: ChatState, name: string): Promise<void> {
  if (!(model instanceof ImageTextToText))
    throw new UsageError(`${model.nameOrPath} is a text model and sees no pictures`);
  const picture = /^https?:\/\//.test(name) ? name : expand(name);
  // What is none would spoil the message that it goes with.
  await loadImage(picture, {}, '/image');
  conversation.pictures.push(picture);
  note(`${conversation.pictures.length} for the next message`);
}

async function retry({ conversation, show }: ChatState): Promise<void> {
  await show((signal) => conversation.retry(signal));
}

function setThinking({ conversation, note }: ChatState, word: string): void {
  conversation.settings.thinks = choice('think', word, ['on', 'off']) === 'on';
  note(`the model ${conversation.settings.thinks ? 'reasons, where it can' : 'answers without reasoning'}`);
}

function setReasoning(state: ChatState, word: string): void {
  state.reasoning = choice('reasoning', word, REASONING_STYLES);
}

function choice<T extends string>(command: string, word: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === word);
  if (found !== undefined) return found;
  throw new UsageError(`/${command} takes ${choices.join(' or ')}, not ${JSON.stringify(word)}`);
}

function stats({ model, conversation, loadSeconds, note }: ChatState): void {
  if (!conversation.stats) throw new UsageError('there is no answer yet');
  const backends = model.getExpertsImplementation();
  note(
    describeStats(
      conversation.stats,
      backends,
      loadSeconds,
      [],
      model.executionStats,
      model.stored(),
    ).trimEnd(),
  );
}

async function save({ conversation, saved, note }: ChatState, name: string): Promise<void> {
  const file = expand(name);
  const text = `${JSON.stringify(conversation.messages, null, 2)}\n`;
  await writeWholeFile(file, text, { isNew: !saved.has(file) }).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === 'EEXIST' ? 'it is there already; choose another name' : whyUnwritable(error);
    throw new UsageError(`/save ${name} cannot be written: ${why}`, { cause: error });
  });
  saved.add(file);
  note(`${conversation.messages.length} messages written to ${name}`);
}

async function load({ conversation, note }: ChatState, name: string): Promise<void> {
  const messages = await readJsonFile(await savedFile(name), name, SAVED).catch((error: Error) => {
    throw new UsageError(`/load ${error.message}`, { cause: error });
  });
  await conversation.restart(messages as readonly ChatMessage[]);
  note(`${conversation.messages.length} messages read from ${name}`);
}

const SAVED: JsonKind = { name: 'saved conversation', remedy: 'Name a file that /save has written' };

/** The path of a file that may be read. @throws UsageError for what is none; on a pipe, reading might never end */
async function savedFile(name: string): Promise<string> {
  const path = expand(name);
  const unread = (why: string, cause?: unknown) =>
    new UsageError(`/load ${name} cannot be read: ${why}`, { cause });
  const found = await stat(path).catch((error: unknown) => {
    throw unread(whyUnreadable(error), error);
  });
  if (found.isFile()) return path;
  throw unread(`it is ${found.isDirectory() ? 'a folder' : 'a pipe, socket or device'}, and no file`);
}

async function clear({ conversation, note }: ChatState): Promise<void> {
  const { system } = conversation.settings;
  await conversation.restart([]);
  conversation.settings.system = system;
  note('nothing has been said yet');
}
