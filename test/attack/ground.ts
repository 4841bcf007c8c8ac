/** What all attacks stand on: the compiled library, a model that speaks, and processes that must end well. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compileSources } from '../helpers/compile-sources.ts';
import { killIfIdle } from '../helpers/idle.ts';
import type { Random } from '../helpers/mutate.ts';

/** One way of doing harm. A round does it once, in a way that `random` alone decides. */
export interface Attack {
  readonly name: string;
  /** Resolves to what did not hold, or undefined where all did. */
  round(random: Random, ground: Ground): Promise<string | undefined>;
}

export interface Ground {
  /** URL of the library's compiled index.js. */
  readonly library: string;
  /** Folder of a small model with a tokenizer. */
  readonly model: string;
  /** What a child that loads the model in `folder` and generates says; see `speak.mjs`. */
  speak(folder: string): Promise<Ending>;
  /** What `speak` says where nothing is wrong, and how much memory it takes. */
  readonly sound: Ending;
  remove(): Promise<void>;
}

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Processor seconds after which a process counts as one that would never end. Loading and speaking take about one. */
const MOST_SECONDS = 60;
/** Peak memory above that of a sound load, in MB. */
const MOST_MORE_MEGABYTES = 400;

const MODEL = fileURLToPath(new URL('../../configs/demo-model', import.meta.url));

export async function openGround(): Promise<Ground> {
  const compiled = await compileSources('index.ts');
  const library = pathToFileURL(join(compiled.folder, 'index.js')).href;
  const cache = mkdtempSync(join(tmpdir(), 'switchyard-attack-cache-'));
  process.env.SWITCHYARD_CACHE = cache;
  const remove = async () => {
    rmSync(cache, { recursive: true, force: true });
    await compiled.remove();
  };
  const speak = (folder: string) => runChild('speak.mjs', [library, folder]);
  try {
    return { library, model: MODEL, speak, sound: await speak(MODEL), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Runs a script of `children/`, under a limit of processor time, and not for ever idle; `whileRunning` may do something to it. */
export function runChild(
  name: string,
  args: readonly string[],
  whileRunning?: (kill: (signal: NodeJS.Signals) => void) => Promise<void>,
  variables: NodeJS.ProcessEnv = {},
): Promise<Ending> {
  const script = fileURLToPath(new URL(`children/${name}`, import.meta.url));
  const limited = ['-c', `ulimit -t ${MOST_SECONDS}; exec "$0" "$@"`, process.execPath, script, ...args];
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', limited, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...variables },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    void killIfIdle(child).then((killed) => {
      if (killed) stderr += '\nkilled: it did nothing any more';
    });
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    whileRunning?.((signal) => child.kill(signal)).catch(reject);
  });
}

/** What `speak.mjs` prints. */
interface Report {
  readonly ids?: readonly number[];
  readonly text?: string;
  readonly error?: { readonly name: string; readonly message: string; readonly own: boolean };
  /** Peak memory of the process. */
  readonly megabytes: number;
}

export const reportOf = ({ stdout }: Ending): Report => JSON.parse(stdout) as Report;

/**
 * Why `ending` is none that a process may come to: it neither spoke nor said what is wrong in the library's own words.
 * @param mayDiffer whether other tokens than the sound model's are no fault
 */
export function faultOf(ending: Ending, { sound }: Ground, mayDiffer = false): string | undefined {
  const { code, signal, stderr } = ending;
  if (code !== 0) return `ended with ${signal ?? `code ${code}`}: ${stderr.slice(-500)}`;
  const { ids, error, megabytes } = reportOf(ending);
  const more = megabytes - reportOf(sound).megabytes;
  if (more > MOST_MORE_MEGABYTES) return `took ${more.toFixed(0)} MB more than a sound load`;
  if (error) return error.own && error.message !== '' ? undefined : `raw ${error.name}: ${error.message}`;
  if (!mayDiffer && `${ids}` !== `${reportOf(sound).ids}`) return `spoke wrongly: ${ids}`;
  return undefined;
}

/** A folder that is there for one round. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-attack-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
