import { type ExecFileException, execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';

// ONNX Runtime for Linux reports its use to its maker unless it is told not to. Nothing may be sent, stored or looked up unasked.

const demo = fileURLToPath(new URL('../../configs/demo-model', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'switchyard-reports-'));
const home = join(folder, 'home');
const canTrace =
  spawnSync('strace', ['-f', '-o', join(folder, 'try'), process.execPath, '-e', '0']).status === 0;

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
async function run(command: string[], environment: Record<string, string> = {}): Promise<string> {
  const { PATH = '' } = process.env;
  const env = { PATH, HOME: home, HF_HUB_OFFLINE: '1', ...environment };
  const [program, ...args] = command as [string, ...string[]];
  const { stdout } = await promisify(execFile)(program, args, { env }).catch((error: ExecFileException) => {
    throw new Error(`${error.message}\n${error.stderr}`);
  });
  return stdout;
}

function writeScript(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}
const module = (name: string) => JSON.stringify(pathToFileURL(join(compiled.folder, name)).href);

/** Generates with the library, then stays a while: reports would go out a little later. */
const library = () => `
  const { AutoModelForCausalLM } = await import(${module('index.js')});
  const model = await AutoModelForCausalLM.fromPretrained(${JSON.stringify(demo)}, { localFilesOnly: true });
  await model.generate({ inputIds: [[1, 2, 3]], maxNewTokens: 2 });
  await new Promise((resolve) => setTimeout(resolve, 500));
  await model.dispose();
`;
const entries: Record<string, () => string[]> = {
  'the library': () => [process.execPath, writeScript('library.mjs', library())],
  'a worker thread': () => {
    const work = writeScript('work.mjs', library());
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
    writeScript('exit.mjs', library().replace(/await new Promise.*/, 'process.exit(0);')),
  ],
};

describe.each(Object.entries(entries))('%s', (_, command) => {
  it('leaves nothing in the home folder', async () => {
    await run(command());
    expect(readdirSync(home, { recursive: true })).toEqual([]);
  });

  it.skipIf(!canTrace)('reaches for no host (needs strace, and leave to use it)', async () => {
    const trace = join(folder, 'trace');
    await run(['strace', '-f', '-e', 'trace=connect,sendto,sendmsg,sendmmsg', '-o', trace, ...command()]);
    const network = readFileSync(trace, 'utf8')
      .split('\n')
      .filter((line) => /AF_INET|sin6?_port|nscd/.test(line));
    expect(network).toEqual([]);
  });
});

describe('ORT_DISABLE_TELEMETRY', () => {
  // A library that is none: the engine's environment is ready by then, and nothing can be sent.
  const afterwards = (environment: Record<string, string>) => {
    const script = `
      const { engineVersion } = await import(${module('runtime/binding.js')});
      try { engineVersion(); } catch ({ name, message }) {
        if (!/cannot open ONNX Runtime/.test(message)) throw new Error(message);
      }
      console.log(process.env.ORT_DISABLE_TELEMETRY);`;
    const none = writeScript('none.so', 'not a library');
    return run([process.execPath, writeScript('after.mjs', script)], {
      SWITCHYARD_ONNXRUNTIME: none,
      ...environment,
    });
  };

  it('is set before the engine opens', async () => {
    expect(await afterwards({})).toBe('1\n');
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: '' })).toBe('1\n');
  });

  it('stays as the user has set it', async () => {
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: '0' })).toBe('0\n');
    expect(await afterwards({ ORT_DISABLE_TELEMETRY: 'true' })).toBe('true\n');
  });
});
