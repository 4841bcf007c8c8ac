// Starts the programs that check and measure, and finds those that may be missing.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs that run now, each in a process group of its own so that what it started ends with it. */
const running = new Set();

/** Ends all programs that run. */
export function killAll() {
  for (const child of running) killGroup(child);
}

function killGroup({ pid }) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It is gone.
  }
}

/**
 * Runs a program to its end, its words going to stderr as they come.
 * @param options.minutes how long it may take: a kernel that hangs never ends
 * @returns {Promise<{ code: number | null, output: string, errors: string }>} what it wrote to stdout and to stderr; no code where a
 *   signal or the time ended it
 * @throws Error where it cannot be started
 */
export function run(command, args, { env = {}, cwd, quiet = false, minutes } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      ...{ cwd, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
      env: { ...process.env, ...env },
    });
    running.add(child);
    const said = { output: '', errors: '' };
    const collect = (name, text) => {
      said[name] += text;
      if (!quiet) process.stderr.write(text);
    };
    const outOfTime = () => {
      killGroup(child);
      collect('errors', `\nended because it took more than ${minutes} minutes\n`);
    };
    const timer = minutes === undefined ? undefined : setTimeout(outOfTime, 60_000 * minutes);
    const settle = () => {
      clearTimeout(timer);
      running.delete(child);
    };
    child.stdout.setEncoding('utf8').on('data', (text) => collect('output', text));
    child.stderr.setEncoding('utf8').on('data', (text) => collect('errors', text));
    child.on('error', (error) => {
      settle();
      reject(new Error(`${command} cannot be started: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      settle();
      resolve({ code: signal ? null : code, ...said });
    });
  });
}

/**
 * The same for a program that must end with 0.
 * @returns {Promise<string>} what it wrote to stdout
 * @throws Error with the end of what it wrote
 */
export async function mustRun(command, args, options) {
  const { code, output, errors } = await run(command, args, options);
  if (code === 0) return output;
  throw Object.assign(
    new Error(`${command} ended with ${code ?? 'a signal'}: ${lastWords(output, errors)}`),
    { output },
  );
}

const LAST = 800;

/** The end of what a program said, its errors first of all. */
export function lastWords(output, errors) {
  return (errors.trim() || output.trim()).slice(-LAST);
}

/** The file of a program of the CUDA toolkit; undefined where it is not installed. */
export function findCudaProgram(name, env = process.env, exists = existsSync) {
  const homes = [env.CUDA_HOME, env.CUDA_PATH].filter(Boolean).map((home) => join(home, 'bin'));
  const folders = [...homes, ...(env.PATH ?? '').split(delimiter), '/usr/local/cuda/bin'];
  return folders.map((folder) => join(folder, name)).find((path) => exists(path));
}

/**
 * What a machine lacks for CUDA, but for Switchyard's own kernels, which the script builds.
 * @param diagnosis what `switchyard doctor --json` prints
 */
export function lacksOf({ cuda }) {
  return cuda.lacks.filter(({ what }) => !what.includes(cuda.kernels.name));
}
