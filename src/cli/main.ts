#!/usr/bin/env node
import { constants } from 'node:os';
import { END } from './ending.ts';
import { Stop } from './io.ts';
import { runCommandLine } from './program.ts';

/** How long a stopped run may take to print what was said so far. */
const GRACE_MS = 1000;

const stop = new AbortController();

/** What Ctrl-C ends in place of the program: an answer, say. */
let taker: (() => void) | undefined;
const onInterrupt = (listener: () => void) => {
  taker = listener;
  return () => {
    if (taker === listener) taker = undefined;
  };
};

process.on('SIGINT', () => {
  const take = taker;
  taker = undefined;
  if (take) return take();
  end('interrupted', 130);
});

process.on(END, () => {
  // A command that ends in an order of its own listens, too.
  if (process.listenerCount(END) === 1) end('terminated', 128 + constants.signals[END]);
});

/** The second signal, or a run that does not wind up, ends the process on the spot. */
function end(why: string, exitCode: number): void {
  if (stop.signal.aborted) process.exit(exitCode);
  stop.abort(new Stop(why, exitCode));
  setTimeout(() => process.exit(exitCode), GRACE_MS).unref();
}

// Whoever reads our output may leave, as `head` does; there is nobody left to talk to then.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') stop.abort(new Stop('the output was closed', 0));
  else {
    process.stderr.write(`error: the output cannot be written: ${error.message}\n`);
    process.exit(1);
  }
});
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.exit(1);
});

const { stdin, stdout, stderr } = process;
const exitCode = await runCommandLine(process.argv.slice(2), {
  ...{ stdin, stdout, stderr, onInterrupt },
  stop: stop.signal,
});
// Output written to a pipe may still be under way, and a failure to write it is told after this callback.
stdout.write('', () => setImmediate(() => process.exit(exitCode)));
