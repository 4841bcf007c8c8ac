import type { Command } from 'commander';
import { Option } from 'commander';
import { AbortError, DEMO_MODEL, type ResponseDelta, SwitchyardError } from '../index.ts';
import { type ChatState, completions, runCommand } from './chat/commands.ts';
import { Conversation } from './chat/conversation.ts';
import { readHistory, writeHistory } from './chat/history-file.ts';
import { GIVEN_UP, Lines, readMessage } from './chat/lines.ts';
import { REASONING_STYLES, type ReasoningStyle, ReplyPrinter } from './chat/reply-printer.ts';
import { type Io, UsageError } from './io.ts';
import { loadModel, type ModelFlags } from './load-model.ts';
import { addComputeOptions, examples, experts, requireDevice } from './options.ts';
import {
  addSamplingOptions,
  generationOptions,
  type SamplingFlags,
  unusedSampling,
} from './sampling-options.ts';

interface Flags extends ModelFlags, SamplingFlags {
  model?: string;
  system?: string;
  /** False with `--no-think`. */
  think: boolean;
  reasoning?: ReasoningStyle;
}

const EXAMPLES = examples(
  ['switchyard chat', 'with the bundled demo model'],
  ['switchyard chat -m Qwen/Qwen3-30B-A3B --system "You are brief."', ''],
  ['cat questions.txt | switchyard chat -m ./model', 'a line is a message; answers go to stdout'],
);

/** `switchyard chat`: a conversation in the terminal, or piped in. */
export function addChatCommand(program: Command, io: Io): void {
  const command = program
    .command('chat')
    .description('Hold a conversation in the terminal. Without --model, the bundled demo model speaks.')
    .option('-m, --model <model>', 'a repo on the Hugging Face Hub, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--system <text>', 'what the model is told first')
    .option('--no-think', 'answer without reasoning, where the model can')
    .addOption(
      new Option(
        '--reasoning <how>',
        'what of the reasoning is shown (default: show on a terminal, else hide)',
      ).choices(REASONING_STYLES),
    )
    .option('--experts <spec>', 'experts backend: a name, or key=name,key=name', experts);
  addComputeOptions(command);
  addSamplingOptions(command, 'what generation_config.json says, or the context holds')
    .addHelpText('after', EXAMPLES)
    .action((flags: Flags) => chat(flags, io));
}

async function chat(flags: Flags, io: Io): Promise<void> {
  await requireDevice(flags.device);
  const { stdin, stdout, stderr } = io;
  const isTerminal = stdin.isTTY === true;
  const started = performance.now();
  const model = await loadModel(flags.model ?? DEMO_MODEL, flags, io);
  try {
    const { system, think: thinks } = flags;
    const options = generationOptions(flags);
    const unused = unusedSampling(flags);
    if (unused !== undefined) stderr.write(`warning: ${unused}\n`);
    const most = options.maxNewTokens ?? model.generationDefaults.maxNewTokens;
    const limit = most === undefined ? { maxLength: model.contextLength } : {};
    const state: ChatState = {
      model,
      conversation: new Conversation(model, { system, thinks }, { ...limit, ...options }),
      reasoning: flags.reasoning ?? (stdout.isTTY ? 'show' : 'hide'),
      loadSeconds: (performance.now() - started) / 1000,
      saved: new Set(),
      note: (text) => stderr.write(`${text}\n`),
      show: (answer) => show(answer, state.reasoning, io),
    };
    if (isTerminal) state.note(`${flags.model ?? DEMO_MODEL}: /help lists commands, Ctrl-D leaves`);
    const lines = new Lines(stdin, {
      ...(isTerminal && {
        // What is typed is no part of the answers, where these go elsewhere.
        terminal: stdout.isTTY ? stdout : stderr,
        history: await readHistory(),
        complete: completions,
      }),
      stop: io.stop,
    });
    try {
      await converse(lines, state, isTerminal, io);
    } finally {
      lines.close();
      if (isTerminal) await writeHistory(lines.history);
    }
  } finally {
    await model.dispose();
  }
}

async function converse(lines: Lines, state: ChatState, isTerminal: boolean, io: Io): Promise<void> {
  for (;;) {
    const message = await readMessage(lines);
    if (message === undefined || io.stop.aborted) break;
    if (message === GIVEN_UP || message === '') continue;
    try {
      const isCommand = /^\/(?!\/)/.test(message);
      if (isCommand && !(await runCommand(message, state))) return;
      if (!isCommand)
        await state.show((signal) => state.conversation.say(message.replace(/^\/\//, '/'), signal));
    } catch (error) {
      // A script is not to go on as if nothing had happened; a person sees what has.
      const isTold = error instanceof UsageError || error instanceof SwitchyardError;
      if (!isTerminal || !isTold || io.stop.aborted) throw error;
      state.note(`error: ${error.message}`);
    }
  }
  // The prompt's line ends.
  if (isTerminal) state.note('');
}

/** Shows an answer as it comes. Ctrl-C stops it, and it alone. */
async function show(
  answer: (signal: AbortSignal) => AsyncGenerator<ResponseDelta, void, undefined>,
  reasoning: ReasoningStyle,
  io: Io,
): Promise<void> {
  const abort = new AbortController();
  const release = io.onInterrupt?.(() => abort.abort());
  const printer = new ReplyPrinter(io.stdout, { isTerminal: io.stdout.isTTY === true, reasoning });
  try {
    for await (const delta of answer(AbortSignal.any([abort.signal, io.stop]))) printer.print(delta);
  } catch (error) {
    if (!(error instanceof AbortError) || io.stop.aborted) throw error;
  } finally {
    printer.end();
    release?.();
  }
}
