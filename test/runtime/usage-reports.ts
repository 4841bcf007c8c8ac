/** Programs that use the engine, each in a process with a home folder of its own. */
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';

const demo = fileURLToPath(new URL('../../configs/demo-model', import.meta.url));
export const folder = mkdtempSync(join(tmpdir(), 'switchyard-reports-'));
export const home = join(folder, 'home');

let compiled: CompiledSources;
beforeAll(async () => {
  compiled = await compileSources('index.ts', 'cli');
});
beforeEach(() => {
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home);
});
afterAll(async () => {
  await compiled.remove();
  rmSync(folder, { recursive: true });
});

/** Runs a program with a home folder and an environment of its own. */
export async function run(command: string[], environment: Record<string, string> = {}): Promise<string> {
  const { PATH = '' } = process.env;
  const env = { PATH, HOME: home, HF_HUB_OFFLINE: '1', ...environment };
  const [program, ...args] = command as [string, ...string[]];
  const { stdout } = await promisify(execFile)(program, args, { env }).catch((error: ExecFileException) => {
    throw new Error(`${error.message}\n${error.stderr}`);
  });
  return stdout;
}

export function writeScript(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}
export const module = (name: string) => JSON.stringify(pathToFileURL(join(compiled.folder, name)).href);

/** Generates with the library, and stays for some milliseconds afterwards. */
const library = (stay: number) => `
  const { AutoModelForCausalLM } = await import(${module('index.js')});
  const model = await AutoModelForCausalLM.fromPretrained(${JSON.stringify(demo)}, { localFilesOnly: true });
  await model.generate({ inputIds: [[1, 2, 3]], maxNewTokens: 2 });
  await new Promise((resolve) => setTimeout(resolve, ${stay}));
  await model.dispose();
`;

/** Commands that use the engine in every way there is. */
export const entries: Record<string, (stay: number) => string[]> = {
  'the library': (stay) => [process.execPath, writeScript('library.mjs', library(stay))],
  'a worker thread': (stay) => {
    const work = writeScript('work.mjs', library(stay));
    const start = `
      import { Worker } from 'node:worker_threads';
      new Worker(${JSON.stringify(work)}).on('error', (error) => { throw error; });`;
    return [process.execPath, writeScript('worker.mjs', start)];
  },
  'the command line': () => {
    const main = join(compiled.folder, 'cli', 'main.js');
    return [
      process.execPath,
      main,
      'generate',
      '--model',
      demo,
      '--prompt',
      'In the',
      '--max-new-tokens',
      '2',
    ];
  },
  'a process that exits at once': () => [
    process.execPath,
    writeScript('exit.mjs', library(0).replace(/await new Promise.*/, 'process.exit(0);')),
  ],
};
