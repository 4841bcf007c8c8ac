import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HubError, show, warn } from '../../errors.ts';
import { CacheLayout } from '../cache/layout.ts';
import { defaultCacheDir, isOffline } from '../environment.ts';
import { openConnection, type TransferSettings } from '../transfer/connection.ts';
import { RefusedError } from '../transfer/refusal.ts';
import { UnreachableError } from '../transfer/retry.ts';
import type { HubOptions, Repo } from '../types.ts';
import { CachedRepo } from './cached-repo.ts';
import { FolderRepo } from './folder-repo.ts';
import { HubRepo } from './hub-repo.ts';
import { resolveCommit } from './metadata.ts';
import { checkFileName, checkRevision, isCommit, isRepoId } from './names.ts';

/**
 * Finds what a caller means by a repo id or folder. An existing folder wins; anything else must be a repo id, which is
 * pinned to one commit here, for all files of the load.
 *
 * @param settings how patiently the hub is used; the defaults suit everyone but tests
 * @throws HubError when it is neither, or the repo, revision or cache entry does not exist
 */
export async function resolveRepo(
  idOrFolder: string,
  options: HubOptions = {},
  settings: Partial<TransferSettings> = {},
): Promise<Repo> {
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
  const revision = options.revision ?? 'main';
  checkRevision(revision);
  const layout = new CacheLayout(resolve(options.cacheDir ?? defaultCacheDir()), idOrFolder);
  if (options.localFilesOnly || isOffline())
    return offlineRepo(idOrFolder, revision, layout, options, subfolder);
  return onlineRepo(idOrFolder, revision, layout, options, subfolder, settings);
}

async function offlineRepo(
  id: string,
  revision: string,
  layout: CacheLayout,
  options: HubOptions,
  subfolder: string,
): Promise<Repo> {
  const reason = isOffline() ? 'offline mode is on' : 'only local files are allowed (localFilesOnly)';
  if (options.forceDownload) {
    throw new HubError(
      `${id} cannot be fetched again: forceDownload was asked for, but ${reason}. Drop one of the two`,
    );
  }
  const commit = isCommit(revision) ? revision : await layout.readRef(revision);
  if (commit === undefined || !(await layout.hasSnapshot(commit))) {
    throw new HubError(
      `${id} (revision ${show(revision)}) is neither a folder here nor in the cache at ${layout.folder}, and ${reason}. ` +
        `With the network on, "switchyard download ${id}" fetches it`,
    );
  }
  return new CachedRepo(id, commit, layout, subfolder, reason);
}

async function onlineRepo(
  id: string,
  revision: string,
  layout: CacheLayout,
  options: HubOptions,
  subfolder: string,
  settings: Partial<TransferSettings>,
): Promise<Repo> {
  const hub = await openConnection(id, revision, options, settings);
  const open = (commit: string, files: ReadonlySet<string> | undefined | 'unasked') =>
    new HubRepo(hub, layout, {
      commit,
      resolved: files !== 'unasked',
      files: files === 'unasked' ? undefined : files,
      subfolder,
      force: options.forceDownload ?? false,
      onProgress: options.onProgress,
    });
  if (isCommit(revision)) return open(revision, 'unasked');
  const known = options.forceDownload ? undefined : await layout.readRef(revision);
  const usable = known !== undefined && (await layout.hasSnapshot(known));
  try {
    // With the files at hand there is no point in asking a dead network over and over.
    const brief = { retries: Math.min(hub.settings.retries, 1), longestWaitMs: 2000 };
    const asked = usable ? { ...hub, settings: { ...hub.settings, ...brief } } : hub;
    const { commit, files } = await resolveCommit(asked);
    return open(commit, files);
  } catch (error) {
    if (!usable || !(error instanceof UnreachableError || error instanceof RefusedError)) throw error;
    warn(`${error.message}. Using commit ${known} from the cache`);
    return new CachedRepo(id, known, layout, subfolder, `the hub did not help (${error.message})`);
  }
}
