import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HubError, show } from '../errors.ts';
import { CacheLayout } from './cache-layout.ts';
import { CachedRepo } from './cached-repo.ts';
import { defaultCacheDir, isOffline } from './environment.ts';
import { FolderRepo } from './folder-repo.ts';
import { checkFileName, checkRevision, isCommit, isRepoId } from './names.ts';
import type { HubOptions, Repo } from './types.ts';

/**
 * Finds what a caller means by a repo id or folder. An existing folder wins; anything else must be a repo id, which is
 * pinned to one commit here, for all files of the load.
 *
 * @throws HubError when it is neither, or the repo, revision or cache entry does not exist
 */
export async function resolveRepo(idOrFolder: string, options: HubOptions = {}): Promise<Repo> {
  if (typeof idOrFolder !== 'string' || idOrFolder === '') {
    throw new HubError(`a model is named by a repo id or a folder, not ${show(idOrFolder)}`);
  }
  const subfolder = options.subfolder ?? '';
  if (subfolder !== '') checkFileName(subfolder, 'subfolder');
  const folder = resolve(idOrFolder.startsWith('~/') ? join(homedir(), idOrFolder.slice(2)) : idOrFolder);
  const found = await stat(folder).catch(() => undefined);
  if (found?.isDirectory()) return new FolderRepo(idOrFolder, join(folder, subfolder));
  if (found !== undefined) {
    throw new HubError(
      `${idOrFolder} is a file; a model is a folder with config.json and .safetensors files, or a repo id`,
    );
  }
  if (!isRepoId(idOrFolder)) {
    throw new HubError(
      `${show(idOrFolder)} is neither an existing folder (looked at ${folder}) nor a repo id such as "Qwen/Qwen1.5-MoE-A2.7B"`,
    );
  }
  return offlineRepo(idOrFolder, options, subfolder);
}

async function offlineRepo(id: string, options: HubOptions, subfolder: string): Promise<Repo> {
  const revision = options.revision ?? 'main';
  checkRevision(revision);
  const layout = new CacheLayout(options.cacheDir ?? defaultCacheDir(), id);
  const reason = isOffline() ? 'offline mode is on' : 'only local files are allowed';
  const commit = isCommit(revision) ? revision : await layout.readRef(revision);
  if (commit === undefined) {
    throw new HubError(
      `${id} (revision ${show(revision)}) is neither a folder here nor in the cache at ${layout.folder}, and ${reason}. ` +
        `With the network on, "switchyard download ${id}" fetches it`,
    );
  }
  return new CachedRepo(id, commit, layout, subfolder, reason);
}
