import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeFolder } from '../src/files.ts';

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
