import { lstat, readdir, readlink, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { unreadable } from '../../files.ts';

/** A file of a folder or snapshot on this disk. */
export interface LocalFile {
  /** Path inside the folder, with forward slashes. */
  readonly name: string;
  /** Absolute path. */
  readonly path: string;
  /** Bytes, or undefined where the symlink leads nowhere. */
  readonly size: number | undefined;
  /** Name of the blob that the file points to, which is a hash of its content; undefined outside a cache. */
  readonly etag: string | undefined;
  /** Number of the file itself on its disk; that of a blob that it is a hard link to. */
  readonly inode: bigint;
}

/**
 * Every file below `folder`, sorted by name.
 *
 * @throws HubError where the folder cannot be read
 */
export async function localFiles(folder: string, prefix = ''): Promise<LocalFile[]> {
  const files: LocalFile[] = [];
  const path = join(folder, prefix);
  const entries = await readdir(path).catch((error) => {
    throw unreadable(path, error);
  });
  for (const entry of entries.sort()) {
    const name = prefix === '' ? entry : `${prefix}/${entry}`;
    const path = join(folder, name);
    // Windows numbers files by 64 bits.
    const own = await lstat(path, { bigint: true });
    const size = own.isSymbolicLink() ? await sizeBehind(path) : Number(own.size);
    if (own.isDirectory()) for (const file of await localFiles(folder, name)) files.push(file);
    else {
      const etag = own.isSymbolicLink() ? await blobName(path) : undefined;
      files.push({ name, path, size, etag, inode: own.ino });
    }
  }
  return files;
}

async function sizeBehind(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

/** The first link counts, not where it ends: a blob may itself be a symlink into another store. */
async function blobName(path: string): Promise<string | undefined> {
  const target = await readlink(path);
  return basename(dirname(target)) === 'blobs' ? basename(target) : undefined;
}

/** Names of blobs by their numbers on the disk, which files that are hard links to them have as well. */
export async function blobsByInode(folder: string): Promise<Map<bigint, string>> {
  const blobs = new Map<bigint, string>();
  for (const name of await readdir(folder).catch(() => [])) {
    const found = await lstat(join(folder, name), { bigint: true }).catch(() => undefined);
    if (found?.isFile()) blobs.set(found.ino, name);
  }
  return blobs;
}
