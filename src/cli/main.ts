#!/usr/bin/env node
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
  // The second Ctrl-C, or a run that does not wind up, ends the process on the spot.
  if (stop.signal.aborted) process.exit(130);
  stop.abort(new Stop('interrupted', 130));
  setTimeout(() => process.exit(130), GRACE_MS).unref();
});

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
