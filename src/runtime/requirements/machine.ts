/** What the doctor may ask a machine; tests describe machines that are not at hand. */
import { execFile } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';

/** How long a program may take to answer. nvidia-smi hangs when the driver is in trouble. */
const ANSWER_MS = 5000;

export interface Answer {
  readonly ok: boolean;
  /** What the program printed, or why it failed. */
  readonly text: string;
}

export interface Machine {
  readonly platform: string;
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  exists(path: string): boolean;
  /** Names in a folder; none where it cannot be read. */
  list(folder: string): readonly string[];
  /** Bytes of a file, fewer at its end; undefined where it cannot be read. */
  read(path: string, offset: number, length: number): Uint8Array | undefined;
  /** Runs a program, found through PATH; undefined where there is no such program. */
  ask(program: string, args: readonly string[]): Promise<Answer | undefined>;
}

/** The machine this process runs on. */
export const thisMachine: Machine = {
  platform: process.platform,
  arch: process.arch,
  env: process.env,
  exists: existsSync,
  list(folder) {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  },
  read(path, offset, length) {
    let file: number | undefined;
    try {
      file = openSync(path, 'r');
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, offset));
    } catch {
      return undefined;
    } finally {
      if (file !== undefined) closeSync(file);
    }
  },
  ask: (program, args) => ask(program, args),
};

/** {@link Machine.ask}, for at most `limit` ms: a process stuck in the driver survives even SIGKILL, so nobody waits for its end. */
export function ask(
  program: string,
  args: readonly string[],
  limit: number = ANSWER_MS,
): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const child = execFile(program, args, { maxBuffer: 16 * 1024 ** 2 }, (error, stdout, stderr) => {
      clearTimeout(timer);
      if (!error) resolve({ ok: true, text: stdout });
      else if (error.code === 'ENOENT' || error.code === 'EACCES') resolve(undefined);
      else resolve({ ok: false, text: (stderr || stdout || error.message).trim() });
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      for (const stream of child.stdio) stream?.destroy();
      child.unref();
      resolve({ ok: false, text: `no answer within ${limit / 1000} s` });
    }, limit);
  });
}
