import type { Readable, Writable } from 'node:stream';

/** What a subcommand may touch of the process; tests pass their own. */
export interface Io {
  stdin: Readable & { isTTY?: boolean; fd?: number };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean };
  /** Aborted with a `Stop` when the run shall end early. */
  stop: AbortSignal;
  /** Hands the next Ctrl-C to the listener, in place of the program, until what it returns is called. */
  onInterrupt?: (listener: () => void) => () => void;
}

/** Why a run ends early, and the exit code that goes with it. */
export class Stop extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Something that the command line alone shows to be wrong: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}
