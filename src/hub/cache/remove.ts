import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { HubError, show } from '../../errors.ts';
import { removePath, unreadable } from '../../files.ts';
import { defaultCacheDir } from '../environment.ts';
import { blobsByInode, localFiles } from '../repo/local-files.ts';
import { checkRevision, isCommit, isRepoId } from '../repo/names.ts';
import { CacheLayout } from './layout.ts';

/** What a removal would take away, or took. */
export interface Removal {
  readonly id: string;
  readonly commits: readonly string[];
  /** Bytes that become free. */
  readonly bytes: number;
  /** Blobs that are symlinks to files elsewhere: only the links go. */
  readonly linkedBlobs: number;
  /** Paths to delete, in an order that leaves a valid cache wherever it stops. */
  readonly paths: readonly string[];
}

/**
 * Plans the removal of a model, or of one commit of it, from the cache. Blobs that another commit needs stay; of a blob
 * that is itself a symlink only the link goes, never the file it leads to.
 *
 * @throws HubError when the cache has no such model or revision
 */
export async function planRemoval(id: string, revision?: string, cacheDir?: string): Promise<Removal> {
  if (!isRepoId(id)) throw new HubError(`${show(id)} is not a repo id such as "Qwen/Qwen1.5-MoE-A2.7B"`);
  const layout = new CacheLayout(resolve(cacheDir ?? defaultCacheDir()), id);
  const found = await lstat(layout.folder).catch((error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw unreadable(layout.folder, error);
  });
  if (found === undefined) {
    throw new HubError(`${id} is not in the cache: there is no ${layout.folder}`);
  }
  const commits = await names(join(layout.folder, 'snapshots'));
  const commit = revision === undefined ? undefined : await findCommit(layout, revision, commits);
  const going = commit === undefined || commits.length === 1 ? commits : [commit];
  const whole = going.length === commits.length;
  const all = await names(join(layout.folder, 'blobs'));
  const inodes = await blobsByInode(join(layout.folder, 'blobs'));
  const blobs = whole ? all : await blobsOnlyIn(layout, commit as string, commits, inodes);
  const { bytes, linkedBlobs } = await weigh([
    ...blobs.map((name) => layout.blob(name)),
    ...(await ownFiles(layout, going, inodes)),
  ]);
  const paths = whole
    ? [layout.folder, layout.locks]
    : [
        ...(await refsTo(join(layout.folder, 'refs'), commit as string)),
        layout.snapshot(commit as string),
        join(layout.folder, '.no_exist', commit as string),
        ...blobs.map((name) => layout.blob(name)),
      ];
  return { id, commits: going, bytes, linkedBlobs, paths };
}

/** Carries a removal out. */
export async function remove({ paths }: Removal): Promise<void> {
  for (const path of paths) await removePath(path);
}

async function findCommit(
  layout: CacheLayout,
  revision: string,
  commits: readonly string[],
): Promise<string> {
  checkRevision(revision);
  const commit = isCommit(revision) ? revision : await layout.readRef(revision);
  if (commit !== undefined && commits.includes(commit)) return commit;
  throw new HubError(
    `the cache has no revision ${show(revision)} of this model in ${layout.folder}; it has ${commits.join(', ') || 'none'}`,
  );
}

/** The blobs of one commit that no other needs. */
async function blobsOnlyIn(
  layout: CacheLayout,
  commit: string,
  commits: readonly string[],
  inodes: ReadonlyMap<bigint, string>,
): Promise<string[]> {
  const own = await blobsOf(layout.snapshot(commit), inodes);
  for (const other of commits) {
    if (other === commit) continue;
    for (const name of await blobsOf(layout.snapshot(other), inodes)) own.delete(name);
  }
  return [...own].sort();
}

/** Names of the blobs that a snapshot's links, of either kind, lead to. */
async function blobsOf(snapshot: string, inodes: ReadonlyMap<bigint, string>): Promise<Set<string>> {
  const files = await localFiles(snapshot);
  const etags = files.map(({ etag, inode }) => etag ?? inodes.get(inode));
  return new Set(etags.filter((etag) => etag !== undefined));
}

/** Files of snapshots that are no links, on a disk that has none. */
async function ownFiles(
  layout: CacheLayout,
  commits: readonly string[],
  inodes: ReadonlyMap<bigint, string>,
): Promise<string[]> {
  const files = await Promise.all(commits.map((commit) => localFiles(layout.snapshot(commit))));
  const own = files.flat().filter(({ etag, inode }) => etag === undefined && !inodes.has(inode));
  return own.map(({ path }) => path);
}

async function refsTo(folder: string, commit: string): Promise<string[]> {
  const files = (await stat(folder).catch(() => undefined)) ? await localFiles(folder) : [];
  const texts = await Promise.all(files.map(({ path }) => readFile(path, 'utf8').catch(() => '')));
  return files.filter((_, i) => texts[i]?.trim() === commit).map(({ path }) => path);
}

async function weigh(paths: readonly string[]): Promise<{ bytes: number; linkedBlobs: number }> {
  const found = await Promise.all(paths.map((path) => lstat(path).catch(() => undefined)));
  return {
    bytes: found.reduce((sum, entry) => sum + (entry?.isFile() ? entry.size : 0), 0),
    linkedBlobs: found.filter((entry) => entry?.isSymbolicLink()).length,
  };
}

async function names(folder: string): Promise<string[]> {
  const found = await readdir(folder).catch((error) => {
    if (error.code === 'ENOENT') return [];
    throw unreadable(folder, error);
  });
  return found.sort();
}
