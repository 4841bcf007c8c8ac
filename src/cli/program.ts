import { Command, CommanderError } from 'commander';
import { requireNode } from '../runtime/node-version.ts';
import { version } from '../runtime/package-root.ts';
import { addCommands } from './commands.ts';
import { type Io, Stop, UsageError } from './io.ts';

/**
 * Runs one command line.
 *
 * @param args what follows the name of the program
 * @returns the exit code: 0, or 2 for what the command line alone shows to be wrong, 1 for any other fault, or that of
 *   the `Stop` that ended the run
 */
export async function runCommandLine(args: readonly string[], io: Io): Promise<number> {
  try {
    requireNode(process.versions.node);
    const program = await buildProgram(args, io);
    await program.parseAsync(args, { from: 'user' });
    return io.stop.aborted ? exitCodeOf(io.stop.reason) : 0;
  } catch (error) {
    // What a stopped run throws is a consequence of the stop.
    if (io.stop.aborted) return exitCodeOf(io.stop.reason);
    if (error instanceof Stop) return error.exitCode;
    if (error instanceof CommanderError) {
      // Its message is printed already; help and version are no faults.
      if (error.code === 'commander.unknownCommand') io.stderr.write(`${hintFor(args[0])}\n`);
      else if (error.code === 'commander.unknownOption' && args[0]?.startsWith('-'))
        io.stderr.write(
          'options follow a command: switchyard generate, or chat; without one they have no meaning\n',
        );
      return error.exitCode === 0 ? 0 : 2;
    }
    io.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
    if (error instanceof UsageError) return 2;
    return 1;
  }
}

/** What commands of other programs are called here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ...{ complete: 'generate PROMPT', run: 'chat -m MODEL', pull: 'download MODEL', get: 'download MODEL' },
  ...{ ls: 'cache ls', list: 'cache ls', rm: 'cache rm MODEL', show: 'info MODEL', inspect: 'info MODEL' },
  ...{ fit: 'info MODEL', estimate: 'info MODEL', start: 'serve -m MODEL', server: 'serve -m MODEL' },
};

function hintFor(word: string | undefined): string {
  const ours = word !== undefined && Object.hasOwn(ELSEWHERE, word) ? ELSEWHERE[word] : undefined;
  if (ours !== undefined) return `here it is: switchyard ${ours}`;
  return 'a prompt belongs to a command: switchyard generate "In the beginning"';
}

const EXIT_CODES = `
Exit codes: 0 where all went well; 2 where the command line, or what is piped in, is wrong, or a device lacks something; 130 after Ctrl-C,
143 after SIGTERM; 1 for any other fault.`;

async function buildProgram(args: readonly string[], io: Io): Promise<Command> {
  const program = new Command('switchyard')
    .description(
      'Runs Qwen Mixture-of-Experts models on ONNX Runtime, with the experts on a backend of your choice.',
    )
    .version(version(), '-v, --version')
    .exitOverride()
    .configureOutput({ writeOut: (text) => io.stdout.write(text), writeErr: (text) => io.stderr.write(text) })
    .addHelpText('after', EXIT_CODES)
    .showHelpAfterError('(add --help for usage)');
  program.command('version', { hidden: true }).action(() => void io.stdout.write(`${version()}\n`));
  await addCommands(program, args, io);
  return program;
}

function exitCodeOf(reason: unknown): number {
  return reason instanceof Stop ? reason.exitCode : 1;
}
