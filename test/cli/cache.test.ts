import { cp, lstat, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Io } from '../../src/cli/io.ts';
import { runCommandLine } from '../../src/cli/program.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { temporaryFolder, treeOf } from '../hub/helpers.ts';
import { CACHED_COMMIT, CACHED_ID, cacheCopy } from './cache-files.ts';
import { run } from './capture.ts';

const OLD = 'e'.repeat(40);
let copy: Awaited<ReturnType<typeof cacheCopy>>;
beforeEach(async () => {
  copy = await cacheCopy();
});

/** Adds an older commit that shares all files but its own config.json. */
async function addOldCommit(): Promise<string> {
  const old = join(copy.repo, 'snapshots', OLD);
  await cp(join(copy.repo, 'snapshots', CACHED_COMMIT), old, { recursive: true, verbatimSymlinks: true });
  await rm(join(old, 'config.json'));
  await writeFile(join(copy.repo, 'blobs', 'd'.repeat(40)), '{"old":true}');
  await symlink(`../../blobs/${'d'.repeat(40)}`, join(old, 'config.json'));
  await writeFile(join(copy.repo, 'refs/old'), OLD);
  return old;
}

describe('switchyard cache ls', () => {
  test('lists models, commits, refs and sizes', async () => {
    const { exitCode, stdout, stderr } = await run(['cache', 'ls']);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(/^acme\/tiny-moe {2}8\.7 kB$/m);
    expect(stdout).toMatch(new RegExp(`^ {2}${CACHED_COMMIT} \\(main, v1\\.0\\) {2}4 files, 8\\.7 kB$`, 'm'));
  });

  test('prints one JSON object with --json', async () => {
    const { stdout } = await run(['cache', 'ls', '--json']);
    const { folder, models, warnings } = JSON.parse(stdout);
    expect({ folder, warnings }).toEqual({ folder: copy.hub, warnings: [] });
    expect(models).toMatchObject([
      { id: CACHED_ID, revisions: [{ commit: CACHED_COMMIT, refs: ['main', 'v1.0'] }] },
    ]);
  });

  test('warns of a folder it cannot read, and lists the others', async () => {
    await mkdir(join(copy.hub, 'models--broken--one'));
    const { exitCode, stdout, stderr } = await run(['cache', 'ls']);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(CACHED_ID);
    expect(stderr).toMatch(/warning: .*models--broken--one/);
  });

  test('a cache that is empty or not there', async () => {
    vi.stubEnv('HF_HUB_CACHE', await temporaryFolder());
    expect((await run(['cache', 'ls'])).stdout).toMatch(/^no models in/);
    expect(await run(['cache', 'ls', '--cache-dir', '/no/such/cache'])).toMatchObject({
      exitCode: 0,
      stdout: 'no models in /no/such/cache\n',
    });
  });
});

describe('switchyard cache rm', () => {
  test('removes a model, and of blobs that are symlinks only the links', async () => {
    const store = await treeOf(join(copy.root, 'store'));
    const { exitCode, stdout } = await run(['cache', 'rm', CACHED_ID, '--yes']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(
      /removed commit 0123.* of acme\/tiny-moe, 6\.2 kB; 2 of its files lie outside the cache and stay/,
    );
    await expect(lstat(copy.repo)).rejects.toThrow(/ENOENT/);
    expect(await treeOf(join(copy.root, 'store'))).toEqual(store);
  });

  test('removes one commit, and leaves the files that others share', async () => {
    const before = await treeOf(copy.repo);
    await addOldCommit();
    const { exitCode, stdout } = await run(['cache', 'rm', CACHED_ID, '--revision', 'old', '--yes']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/removed commit eeee.*, 12 B\n/);
    expect(await treeOf(copy.repo)).toEqual(before);
    expect((await openCheckpoint(await resolveRepo(CACHED_ID))).tensors.size).toBe(23);
  });

  test('removes the newer commit with its refs, and the older still loads', async () => {
    await addOldCommit();
    await run(['cache', 'rm', CACHED_ID, '--revision', CACHED_COMMIT, '--yes']);
    const left = Object.keys(await treeOf(copy.repo));
    expect(left.filter((path) => path.startsWith('refs'))).toEqual(['refs/old']);
    expect(left.filter((path) => path.includes(CACHED_COMMIT))).toEqual([]);
    const repo = await resolveRepo(CACHED_ID, { revision: 'old' });
    expect(await readFile(await repo.require('config.json'), 'utf8')).toBe('{"old":true}');
    expect((await openCheckpoint(repo)).tensors.size).toBe(23);
  });

  test('asks on a terminal, and takes only yes for yes', async () => {
    for (const [answer, removed] of [
      ['n\n', false],
      ['\n', false],
      ['yess\n', false],
      ['y\n', true],
    ] as const) {
      const stdin: Io['stdin'] = Readable.from([Buffer.from(answer)]);
      stdin.isTTY = true;
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const stop = new AbortController().signal;
      expect(await runCommandLine(['cache', 'rm', CACHED_ID], { stdin, stdout, stderr, stop })).toBe(0);
      expect(stderr.read().toString()).toMatch(/Remove commit 0123.* of acme\/tiny-moe.*\? \[y\/N\]/);
      expect(
        await lstat(copy.repo).then(
          () => false,
          () => true,
        ),
        answer,
      ).toBe(removed);
    }
  });

  test('Ctrl-C at the question removes nothing, and ends with 130', async () => {
    const stdin: Io['stdin'] = Readable.from([Buffer.from('\x03')]);
    stdin.isTTY = true;
    const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 80 });
    const stop = new AbortController().signal;
    const io = { stdin, stdout: new PassThrough(), stderr, stop };
    expect(await runCommandLine(['cache', 'rm', CACHED_ID], io)).toBe(130);
    await lstat(copy.repo);
  });

  test('takes the end of the input for no', async () => {
    const { exitCode, stdout, stderr } = await run(['cache', 'rm', CACHED_ID], { stdin: null });
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
    expect(stderr).toMatch(/nothing was removed/);
    await lstat(copy.repo);
  });

  test.each([
    [['cache', 'rm', CACHED_ID], 2, /confirm the removal with --yes/],
    [['cache', 'rm', '../../etc', '--yes'], 2, /not a repo id/],
    [['cache', 'rm', 'acme/other', '--yes'], 1, /acme\/other is not in the cache/],
    [['cache', 'rm', 'acme/other'], 1, /acme\/other is not in the cache/],
    [['cache', 'rm', CACHED_ID, '--revision', 'v9', '--yes'], 1, /no revision "v9".*0123/],
    [['cache', 'rm', CACHED_ID, '--revision', '../..', '--yes'], 1, /not a path inside/],
    [['cache', 'rm', 'demo'], 2, /demo is part of the package.*nothing to remove/],
    [['cache', 'rm'], 2, /missing required argument/],
  ])('%j ends with code %i and removes nothing', async (args, code, message) => {
    const before = await treeOf(copy.hub);
    const { exitCode, stderr } = await run(args, { stdin: '' });
    expect(exitCode).toBe(code);
    expect(stderr).toMatch(message);
    expect(await treeOf(copy.hub)).toEqual(before);
  });
});
