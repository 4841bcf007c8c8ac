import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeFolder, writeWholeFile } from '../src/files.ts';
import { compileSources } from './helpers/compile-sources.ts';

const root = mkdtempSync(join(tmpdir(), 'switchyard-folders-'));
afterAll(() => rmSync(root, { recursive: true }));

describe('makeFolder', () => {
  it('makes what is missing, several at once the same', async () => {
    const path = join(root, 'a/b/c');
    await Promise.all(Array.from({ length: 20 }, () => makeFolder(path)));
    expect(statSync(path).isDirectory()).toBe(true);
    mkdirSync(join(root, 'there'));
    await makeFolder(join(root, 'there'));
    await makeFolder('/');
  });

  it('fails where a file is in the way', async () => {
    writeFileSync(join(root, 'file'), '');
    await expect(makeFolder(join(root, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeFolder(join(root, 'file/x/y'))).rejects.toMatchObject({ syscall: 'mkdir' });
  });

  it.runIf(process.platform === 'linux')('fails where nothing can be made', async () => {
    await expect(makeFolder('/proc/switchyard/a/b')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('writeWholeFile', () => {
  const folder = join(root, 'whole');
  mkdirSync(folder);
  const file = join(folder, 'file');

  it('writes a new file and replaces an old one, with its permissions and through a link', async () => {
    await writeWholeFile(file, 'first', { mode: 0o600 });
    await expect(writeWholeFile(file, 'other', { isNew: true })).rejects.toMatchObject({ code: 'EEXIST' });
    expect(readFileSync(file, 'utf8')).toBe('first');
    const link = join(folder, 'link');
    symlinkSync('file', link);
    await writeWholeFile(link, 'second', { mode: 0o666 });
    expect([readFileSync(file, 'utf8'), readlinkSync(link)]).toEqual(['second', 'file']);
    if (process.platform !== 'win32') expect(statSync(file).mode & 0o777).toBe(0o600);
    rmSync(link);
    await writeWholeFile('/dev/null', 'nowhere');
    await expect(writeWholeFile(join(folder, 'none/x'), '')).rejects.toMatchObject({ code: 'ENOENT' });
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it.runIf(process.platform === 'linux')('leaves what was there where there is no room', async () => {
    writeFileSync(file, 'old');
    const compiled = await compileSources('files.ts');
    const write = `
      const { whyUnwritable, writeWholeFile } = await import(process.argv[1]);
      for (const name of ['file', 'new'])
        await writeWholeFile(name, 'x'.repeat(1e6)).then(() => console.log('written'), (error) => console.log(whyUnwritable(error)));`;
    // Of a file, so many blocks of 512 or 1024 bytes.
    const limited = `trap '' XFSZ; ulimit -f 100; exec "$0" --input-type=module -e "$1" "$2"`;
    const args = ['-c', limited, process.execPath, write, join(compiled.folder, 'files.js')];
    const { stdout } = spawnSync('/bin/sh', args, { cwd: folder, encoding: 'utf8' });
    await compiled.remove();
    expect(stdout).toMatch(/^(it becomes larger than .*\(EFBIG\)\n){2}$/);
    expect([readdirSync(folder), readFileSync(file, 'utf8')]).toEqual([['file'], 'old']);
  });
});
