import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { version } from '../../src/runtime/package-root.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Beside `dist`, so that the command finds the engine and the demo model as it does from there. */
const compiled = join(root, 'dist-test');

beforeAll(async () => {
  await rm(compiled, { recursive: true, force: true });
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  await promisify(execFile)(tsc, ['-p', 'configs/tsconfig.build.json', '--outDir', compiled], { cwd: root });
});
afterAll(() => rm(compiled, { recursive: true, force: true }));

/** More text than a test waits for: over a second of it. */
const LONG = ['--prompt', 'In the beginning', '--ignore-eos', '--max-new-tokens', '1000', '--seed', '1'];

function start(...args: string[]) {
  const child = spawn(process.execPath, [join(compiled, 'cli', 'main.js'), ...args]);
  return { child, stderr: text(child.stderr), exit: exitOf(child) };
}

async function exitOf(child: ChildProcess): Promise<number | string> {
  const [code, signal] = await once(child, 'exit');
  return code ?? signal;
}

describe('the process', () => {
  test('generates from the demo model and ends', async () => {
    const { child, stderr, exit } = start(
      'generate',
      '--prompt',
      'In the beginning',
      '--max-new-tokens',
      '4',
    );
    child.stdin.end();
    expect(await text(child.stdout)).toMatch(/\S.*\n$/s);
    expect(await stderr).toBe('');
    expect(await exit).toBe(0);
  });

  test('streams, and Ctrl-C ends it at once with what was said so far', async () => {
    const { child, stderr, exit } = start('generate', ...LONG);
    let said = '';
    child.stdout.on('data', (chunk) => {
      if (said === '') child.kill('SIGINT');
      said += chunk;
    });
    // A run that ends by itself ends with 0.
    expect(await exit).toBe(130);
    expect(said).toMatch(/\n$/);
    expect(await stderr).toBe('');
  });

  test.skipIf(process.platform === 'win32')('SIGTERM ends it as orderly', async () => {
    const { child, stderr, exit } = start('generate', ...LONG);
    let said = '';
    child.stdout.on('data', (chunk) => {
      if (said === '') child.kill('SIGTERM');
      said += chunk;
    });
    expect(await exit).toBe(143);
    expect(said).toMatch(/\n$/);
    expect(await stderr).toBe('');
  });

  test.skipIf(process.platform === 'win32')('SIGTERM leaves nothing half written', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-terminated-'));
    const { child, exit } = start('quantize', 'demo', join(folder, 'out'), '--to', 'int4');
    const running = () => child.exitCode === null && child.signalCode === null;
    while (running() && (await readdir(folder)).length === 0) await sleep(2);
    child.kill('SIGTERM');
    // It may have been done when it was told.
    const whole = (await exit) === 143 ? [] : ['out'];
    expect(await readdir(folder)).toEqual(whole);
    await rm(folder, { recursive: true });
  });

  test.skipIf(process.platform === 'win32')(
    'what ends in the middle of a file leaves nothing of it',
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'switchyard-limited-'));
      const program = join(compiled, 'cli', 'main.js');
      // Blocks of 512 bytes: enough for the start of the weights, which are 2.2 MB.
      const line = `ulimit -f 2000; exec '${process.execPath}' '${program}' quantize demo '${folder}/out' --to int4`;
      const child = spawn('sh', ['-c', line], { stdio: ['ignore', 'ignore', 'pipe'] });
      const exit = exitOf(child);
      expect(await text(child.stderr as Readable)).toMatch(/weights \(2\.2 MB\) cannot be kept: .*\(EFBIG\)/);
      expect(await exit).toBe(1);
      expect(await readdir(folder)).toEqual([]);
      await rm(folder, { recursive: true });
    },
  );

  test('Ctrl-C ends it while it waits for a prompt', async () => {
    const { child, exit, stderr } = start('generate');
    // More than a pipe holds: when all of it is written, the command is reading.
    await new Promise((resolve) => child.stdin.write('In the '.repeat(100_000), resolve));
    child.kill('SIGINT');
    expect(await exit).toBe(130);
    expect(await stderr).toBe('');
  });

  test('a reader that leaves is no error', async () => {
    const { child, stderr, exit } = start('generate', ...LONG);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    expect(await exit).toBe(0);
    expect(await stderr).toBe('');
  });

  test.runIf(existsSync('/dev/full'))('output that cannot be written is an error', async () => {
    const full = await open('/dev/full', 'w');
    const args = [join(compiled, 'cli', 'main.js'), 'info', DEMO_FOLDER];
    const child = spawn(process.execPath, args, { stdio: ['ignore', full.fd, 'pipe'] });
    const exit = exitOf(child);
    expect(await text(child.stderr as Readable)).toMatch(/^error: the output cannot be written: ENOSPC/);
    expect(await exit).toBe(1);
    await full.close();
  });

  test('does not wait for a standard input that says nothing', async () => {
    // Node hands a child a socket, which stays open until it is told otherwise.
    const { exit, stderr } = start('generate', '-p', 'In the beginning', '-n', '2');
    expect(await exit).toBe(0);
    expect(await stderr).toBe('');
  });

  test('exits with 2 on a wrong command line and with 1 on another fault', async () => {
    const wrong = start('generate', '--top-p', '7');
    const missing = start('info', './no/such/folder');
    expect([await wrong.exit, await missing.exit]).toEqual([2, 1]);
    expect(await wrong.stderr).toMatch(/--top-p/);
    expect(await missing.stderr).toMatch(/^error: .*no\/such\/folder/);
  });
});

describe('the program', () => {
  test.each([['--help'], ['generate', '--help'], ['info', '--help']])(
    '%s %s is no fault',
    async (...args) => {
      const { exitCode, stdout, stderr } = await run(args);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
      expect(stdout).toMatch(/^Usage: switchyard/);
    },
  );

  test('lists its commands', async () => {
    expect((await run(['--help'])).stdout).toMatch(/^ {2}generate .*^ {2}info /ms);
  });

  test('tells its version', async () => {
    expect(await run(['--version'])).toEqual({ exitCode: 0, stdout: `${version()}\n`, stderr: '' });
  });

  test.each(['-v', '--version', 'version'])('%s tells its version', async (flag) => {
    expect((await run([flag])).stdout).toBe(`${version()}\n`);
  });

  test('every command shows examples, and the program its exit codes', async () => {
    const help = (await run(['--help'])).stdout;
    expect(help).toMatch(/Exit codes: 0 .*2 .*130 .*1/s);
    const names = [...help.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name as string);
    for (const name of names.filter((name) => name !== 'help' && name !== 'cache' && name !== 'build'))
      expect((await run([name, '--help'])).stdout, name).toMatch(/^Examples?:\n {2}.*switchyard /m);
  });

  test('suggests a command for a misspelt one', async () => {
    const { exitCode, stdout, stderr } = await run(['generat']);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(/unknown command 'generat'.*Did you mean generate/s);
    // A prompt alone is no command, and is told where it belongs.
    expect((await run(['Hello there'])).stderr).toMatch(
      /a prompt belongs to a command: switchyard generate /,
    );
  });

  test('wants a command', async () => {
    const { exitCode, stdout, stderr } = await run([]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: switchyard/);
  });
});
