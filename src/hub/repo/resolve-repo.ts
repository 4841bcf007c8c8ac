import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { abortIf, HubError, show, warn } from '../../errors.ts';
import { unreadable } from '../../files.ts';
import { checkSignal } from '../../options.ts';
import { CacheLayout } from '../cache/layout.ts';
import { defaultCacheDir, expand, hubEndpoint, isOffline } from '../environment.ts';
import { spellingHint } from '../repo-spelling.ts';
import { openConnection, type TransferSettings } from '../transfer/connection.ts';
import { RefusedError } from '../transfer/refusal.ts';
import { UnreachableError } from '../transfer/retry.ts';
import type { HubOptions, Repo } from '../types.ts';
import { CachedRepo } from './cached-repo.ts';
import { FolderRepo } from './folder-repo.ts';
import { HubRepo } from './hub-repo.ts';
import { resolveCommit } from './metadata.ts';
import { checkFileName, checkRevision, isCommit, isRepoId, notAFolder, unknownName } from './names.ts';

/**
 * Finds what a caller means by a repo id or folder. An existing folder wins; anything else must be a repo id, which is
 * pinned to one commit here, for all files of the load.
 *
 * @param settings how patiently the hub is used; the defaults suit everyone but tests
 * @throws HubError when it is neither, or the repo, revision or cache entry does not exist
 * @throws AbortError
 */
export async function resolveRepo(
  idOrFolder: string,
  options: HubOptions = {},
  settings: Partial<TransferSettings> = {},
): Promise<Repo> {
  checkOptions(options);
  if (typeof idOrFolder !== 'string' || idOrFolder === '') {
    throw new HubError(`a model is named by a repo id or a folder, not ${show(idOrFolder)}`);
  }
  abortIf(options.signal, `loading ${idOrFolder}`);
  const subfolder = options.subfolder ?? '';
  if (subfolder !== '') checkFileName(subfolder, 'subfolder');
  const folder = expand(idOrFolder);
  const kind = await kindOf(folder);
  if (kind === 'folder') {
    if ((options.revision ?? 'main') !== 'main') {
      throw new HubError(
        `${idOrFolder} is a folder, which has no revisions, but revision is ${show(options.revision)}. Drop it, or name a repo`,
      );
    }
    return new FolderRepo(idOrFolder, join(folder, subfolder), options);
  }
  if (kind === 'file') throw notAFolder(idOrFolder);
  if (!isRepoId(idOrFolder)) throw unknownName(idOrFolder, folder, hubEndpoint());
  const revision = options.revision ?? 'main';
  checkRevision(revision);
  const layout = new CacheLayout(expand(options.cacheDir ?? defaultCacheDir()), idOrFolder);
  const place = { id: idOrFolder, revision, layout, subfolder };
  if (options.localFilesOnly || isOffline()) return offlineRepo(place, options);
  return onlineRepo(place, options, settings);
}

const TYPES: Readonly<Record<string, string>> = {
  revision: 'string',
  token: 'string',
  cacheDir: 'string',
  subfolder: 'string',
  localFilesOnly: 'boolean',
  forceDownload: 'boolean',
  onProgress: 'function',
  onWarning: 'function',
};

/** @throws HubError for an option of another type, InputError for a signal that is none, each of which would have an effect nobody asked for */
function checkOptions(options: HubOptions): void {
  for (const [name, type] of Object.entries(TYPES)) {
    const value = options[name as keyof HubOptions] as unknown;
    if (value === undefined || value === null || typeof value === type) continue;
    const found = name === 'token' ? `of the type ${typeof value}` : show(value);
    throw new HubError(`${name} is ${found}; expected a ${type}`);
  }
  checkSignal(options.signal, 'resolveRepo');
}

/** @throws HubError where the system does not let us look */
async function kindOf(path: string): Promise<'folder' | 'file' | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    // A name that cannot be a path may still be one of a repo, or have its own explanation.
    if (/^(ENOENT|ENOTDIR|ENAMETOOLONG|ERR_INVALID_ARG_VALUE)$/.test(code)) return undefined;
    throw unreadable(path, error);
  }
}

/** A repo as asked for, and where the cache has it. */
interface Place {
  readonly id: string;
  readonly revision: string;
  readonly subfolder: string;
  readonly layout: CacheLayout;
}

async function offlineRepo({ id, revision, subfolder, layout }: Place, options: HubOptions): Promise<Repo> {
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
        (spellingHint(id) || `With the network on, "switchyard download ${id}" fetches it`),
    );
  }
  return new CachedRepo(id, layout, { ...options, commit, subfolder, reason });
}

async function onlineRepo(
  { id, revision, subfolder, layout }: Place,
  options: HubOptions,
  settings: Partial<TransferSettings>,
): Promise<Repo> {
  const hub = await openConnection(id, revision, options, settings);
  const force = options.forceDownload ?? false;
  const common = { subfolder, force, onProgress: options.onProgress };
  if (isCommit(revision)) return new HubRepo(hub, layout, { ...common, commit: revision, files: undefined });
  // A ref that cannot be read is only a note that is not there.
  const known = force ? undefined : await layout.readRef(revision).catch(() => undefined);
  const usable = known !== undefined && (await layout.hasSnapshot(known));
  try {
    // With the files at hand there is no point in asking a dead network over and over.
    const brief = { retries: Math.min(hub.settings.retries, 1), longestWaitMs: 2000 };
    const asked = usable ? { ...hub, settings: { ...hub.settings, ...brief } } : hub;
    const { commit, files } = await resolveCommit(asked);
    if (usable && commit !== known && !(await layout.isWritable())) {
      warn(
        `${show(revision)} of ${id} is now ${commit}, but the cache at ${layout.folder} cannot be written. Using commit ${known} in it`,
        options.onWarning,
      );
      return new CachedRepo(id, layout, {
        ...options,
        commit: known,
        subfolder,
        reason: 'it cannot be written',
      });
    }
    return new HubRepo(hub, layout, { ...common, commit, files });
  } catch (error) {
    if (!usable || !(error instanceof UnreachableError || error instanceof RefusedError))
      throw withHint(id, error);
    warn(`${error.message}. Using commit ${known} from the cache`, options.onWarning);
    const reason = `the hub did not help (${error.message})`;
    return new CachedRepo(id, layout, { ...options, commit: known, subfolder, reason });
  }
}

/** Who cannot ask the hub does not hear from it either that the name is wrong. */
function withHint(id: string, error: unknown): unknown {
  const hint = error instanceof UnreachableError ? spellingHint(id) : '';
  return hint === '' ? error : new UnreachableError(`${(error as Error).message}. ${hint}`, { cause: error });
}
