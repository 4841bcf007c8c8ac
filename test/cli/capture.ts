import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Io } from '../../src/cli/io.ts';
import { runCommandLine } from '../../src/cli/program.ts';

/** Runs a command line in this process. `stdin` null stands for a terminal. */
export async function run(args: string[], options: { stdin?: string | null; stop?: AbortSignal } = {}) {
  const { stdin = null, stop = new AbortController().signal } = options;
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const input: Io['stdin'] = Readable.from(stdin === null ? [] : [Buffer.from(stdin)]);
  input.isTTY = stdin === null;
  const exitCode = await runCommandLine(args, { stdin: input, stdout, stderr, stop });
  stdout.end();
  stderr.end();
  return { exitCode, stdout: await text(stdout), stderr: await text(stderr) };
}
