import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { partialPath, removeLeftovers } from '../src/partial-paths.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-partial-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** The name that a process would have given; one that has ended, unless told otherwise. */
async function nameOf(name: string, pid = ended(), machine?: string): Promise<string> {
  const mine = basename(await partialPath(join(folder, name)));
  const [before, own] = (/^(.+\.partial-)([\da-f]{8})-/.exec(mine) ?? []).slice(1);
  return mine.replace(`${before}${own}-${process.pid}-`, `${before}${machine ?? own}-${pid}-`);
}

function ended(): number {
  return spawnSync(process.execPath, ['-e', '']).pid;
}

const file = (name: string) => writeFile(join(folder, name), '');
const left = async () => (await readdir(folder)).sort();

it('no two names are the same', async () => {
  const names = await Promise.all(Array.from({ length: 100 }, () => partialPath('x')));
  expect(new Set(names).size).toBe(100);
});

it('what ended processes have left goes, files and folders', async () => {
  await file(await nameOf('a'));
  await mkdir(join(folder, `${await nameOf('b')}.former`));
  await writeFile(join(folder, `${await nameOf('b')}`), 'x');
  const kept = [
    'a',
    'a.partial',
    'a.partial-1',
    `${await nameOf('a')}.txt`,
    await nameOf('a', process.pid),
    await nameOf('a', process.ppid),
  ];
  for (const name of kept) await file(name);
  await removeLeftovers(folder);
  expect(await left()).toEqual(kept.sort());
  await removeLeftovers(join(folder, 'nothing'));
});

it('of one name, where it is told so', async () => {
  await file(await nameOf('a'));
  const other = await nameOf('ab');
  await file(other);
  await removeLeftovers(folder, 'a');
  expect(await left()).toEqual([other]);
});

it('of other machines, what was not written to for a day', async () => {
  const [living, silent, busy] = await Promise.all(
    ['a', 'b', 'c'].map((name) => nameOf(name, process.pid, '01234567')),
  );
  const before = new Date(Date.now() - 2 * 86_400_000);
  await file(living as string);
  await file(silent as string);
  await utimes(join(folder, silent as string), before, before);
  await mkdir(join(folder, busy as string));
  await file(join(busy as string, 'weights'));
  await utimes(join(folder, busy as string), before, before);
  await removeLeftovers(folder);
  expect(await left()).toEqual([living, busy]);
});
