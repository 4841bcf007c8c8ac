/**
 * The commands. Each is loaded only to be run, or to show its help, so that `--help` and `--version` of the program answer at once.
 */
import type { Command } from 'commander';
import type { Io } from './io.ts';

interface Entry {
  /** The name, and what it takes. */
  readonly usage: string;
  /** In the words of the command itself. */
  readonly description: string;
  readonly load: () => Promise<(program: Command, io: Io) => void>;
}

const COMMANDS: readonly Entry[] = [
  {
    usage: 'generate [prompt]',
    description: 'Generate text. Without --model, the bundled demo model speaks.',
    load: async () => (await import('./generate.ts')).addGenerateCommand,
  },
  {
    usage: 'chat',
    description: 'Hold a conversation in the terminal. Without --model, the bundled demo model speaks.',
    load: async () => (await import('./chat.ts')).addChatCommand,
  },
  {
    usage: 'serve',
    description:
      "Serve models over HTTP in OpenAI's and Anthropic's words. Without --model, the demo is served.",
    load: async () => (await import('./serve.ts')).addServeCommand,
  },
  {
    usage: 'batch [in] [out]',
    description: "Answer a file of requests, in OpenAI's batch format, and go on where an earlier run ended.",
    load: async () => (await import('./batch.ts')).addBatchCommand,
  },
  {
    usage: 'info <model>',
    description: 'Describe a model: architecture, parameters, experts, files.',
    load: async () => (await import('./info.ts')).addInfoCommand,
  },
  {
    usage: 'models',
    description:
      'List published models that run well on this machine, best first, with the command for each.',
    load: async () => (await import('./models.ts')).addModelsCommand,
  },
  {
    usage: 'download <model>',
    description: 'Fetch a model into the cache: config, weights, tokenizer and processor files.',
    load: async () => (await import('./download.ts')).addDownloadCommand,
  },
  {
    usage: 'cache',
    description: 'List or remove the models in the cache.',
    load: async () => (await import('./cache.ts')).addCacheCommand,
  },
  {
    usage: 'quantize <model> <folder>',
    description:
      'Write a model with rounded weights to a folder, as compressed-tensors, for this and other programs.',
    load: async () => (await import('./quantize.ts')).addQuantizeCommand,
  },
  {
    usage: 'verify <model>',
    description:
      'Check a model on this disk: sizes, hashes, headers, every tensor the architecture needs, and scales of quantized weights.',
    load: async () => (await import('./verify.ts')).addVerifyCommand,
  },
  {
    usage: 'bench',
    description: 'Measure load, prefill, decode and memory. Without --model, the bundled demo model runs.',
    load: async () => (await import('./bench.ts')).addBenchCommand,
  },
  {
    usage: 'experts',
    description: 'Measure which experts backend is fastest for how many tokens; what was measured is kept.',
    load: async () => (await import('./tuning-table.ts')).addExpertsCommand,
  },
  {
    usage: 'routing <file> [second]',
    description: 'Show which experts worked, and how evenly, from a file that `generate --routing` wrote.',
    load: async () => (await import('./routing.ts')).addRoutingCommand,
  },
  {
    usage: 'doctor',
    description: 'Say what models would run on here, what is missing, and what to do about it.',
    load: async () => (await import('./doctor.ts')).addDoctorCommand,
  },
  {
    usage: 'build',
    description: 'Compile the native engine here, in place of the prebuilt one; it takes a C++20 compiler.',
    load: async () => (await import('./build.ts')).addBuildCommand,
  },
  {
    usage: 'completion <shell>',
    description: 'Print what makes a shell complete commands and options.',
    load: async () => (await import('./completion.ts')).addCompletionCommand,
  },
];

/** The command that has to know all others, with their options. */
const ALL_KNOWING = 'completion';

/** Gives the program its commands: the one that a command line asks for in full, of the others name and description. */
export async function addCommands(program: Command, args: readonly string[], io: Io): Promise<void> {
  // The program's own options take no values, so the first word is a command; that of `help` is what help is wanted for.
  const words = args.filter((arg) => !arg.startsWith('-'));
  const wanted = words[0] === 'help' ? words[1] : words[0];
  for (const { usage, description, load } of COMMANDS) {
    if (wanted === ALL_KNOWING || usage.split(' ')[0] === wanted) (await load())(program, io);
    else program.command(usage).usage('[options]').description(description);
  }
}
