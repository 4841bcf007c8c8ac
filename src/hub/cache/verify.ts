import { dirname, join } from 'node:path';
import { abortIf } from '../../errors.ts';
import { unreadable } from '../../files.ts';
import { blobsByInode, type LocalFile, localFiles } from '../repo/local-files.ts';
import { ContentHash, type HashKind } from '../transfer/content-hash.ts';
import type { Repo } from '../types.ts';

/** What became of one file. */
export interface FileReport {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** The hash that was compared with the blob's name, or undefined where the cache knows none. */
  readonly hash: HashKind | undefined;
  /** What is wrong with it, or undefined. */
  readonly fault: string | undefined;
}

/** Reads every file of a folder or cached snapshot and compares it with the hash that its blob is named by. */
export async function* verifyFiles(repo: Repo, signal?: AbortSignal): AsyncGenerator<FileReport, void, void> {
  const folder = dirname(await repo.require('config.json'));
  // On a disk without symbolic links, a snapshot has hard links.
  const blobs = await blobsByInode(join(folder, '../../blobs'));
  for (const file of await localFiles(folder)) {
    abortIf(signal, 'the check');
    const etag = file.etag ?? (repo.commit === undefined ? undefined : blobs.get(file.inode));
    yield {
      ...(await verify({ ...file, etag }, signal)),
      name: file.name,
      path: file.path,
      size: file.size ?? 0,
    };
  }
}

async function verify(
  file: LocalFile,
  signal: AbortSignal | undefined,
): Promise<Pick<FileReport, 'hash' | 'fault'>> {
  const { path, size, etag } = file;
  if (size === undefined)
    return { hash: undefined, fault: 'it points to a blob that is not there; download it again' };
  const hash = etag === undefined ? undefined : ContentHash.of(etag, size);
  if (hash === undefined) return { hash: undefined, fault: undefined };
  const { kind } = hash;
  try {
    await hash.updateFromFile(path, size, signal);
  } catch (error) {
    abortIf(signal, 'the check');
    throw unreadable(path, error);
  }
  const actual = hash.mismatch();
  if (actual === undefined) return { hash: kind, fault: undefined };
  const remedy = 'download it again with --force';
  return { hash: kind, fault: `${size} bytes with ${kind} ${actual}, expected ${etag}; ${remedy}` };
}
