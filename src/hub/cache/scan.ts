import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { unreadable } from '../../files.ts';
import { defaultCacheDir } from '../environment.ts';

/** What the cache holds of one commit of a model. */
export interface CachedRevision {
  readonly commit: string;
  /** Branches and tags that point to it. */
  readonly refs: readonly string[];
  readonly files: number;
  /** Bytes of its files; other commits may share them. */
  readonly bytes: number;
  readonly lastModified: Date;
}

export interface CachedModel {
  readonly id: string;
  /** Bytes of all its blobs, each counted once. */
  readonly bytes: number;
  readonly revisions: readonly CachedRevision[];
}

export interface CacheContent {
  readonly folder: string;
  readonly models: readonly CachedModel[];
  /** Why some folders could not be read as a model. */
  readonly warnings: readonly string[];
}

/** The models in a cache, sorted by id. A cache that does not exist is empty. */
export async function scanCache(cacheDir: string = defaultCacheDir()): Promise<CacheContent> {
  const folder = resolve(cacheDir);
  if ((await stat(folder).catch(() => undefined)) === undefined) return { folder, models: [], warnings: [] };
  const { scanCacheDir } = await import('@huggingface/hub');
  const { repos, warnings } = await scanCacheDir(folder).catch((error) => {
    throw unreadable(folder, error);
  });
  const models = repos
    .filter(({ id }) => id.type === 'model')
    .map(({ id, size, revisions }) => ({
      id: id.name,
      bytes: size,
      revisions: revisions.map(({ commitOid, refs, files, size, lastModifiedAt }) => ({
        commit: commitOid,
        refs: [...refs].sort(),
        files: files.length,
        bytes: size,
        lastModified: lastModifiedAt,
      })),
    }));
  models.sort((a, b) => (a.id < b.id ? -1 : 1));
  return { folder, models, warnings: warnings.map(({ message }) => message) };
}
