import { join } from 'node:path';
import { abortable, InputError, show } from '../errors.ts';
import { FolderRepo } from '../hub/repo/folder-repo.ts';
import { resolveRepo as resolve } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import { checkOptions, noMore, type OptionNames } from '../options.ts';
import { packageRoot } from '../runtime/package-root.ts';

const NAMES: OptionNames<HubOptions> = {
  ...{ revision: true, token: true, cacheDir: true, subfolder: true, localFilesOnly: true },
  ...{ forceDownload: true, onProgress: true, onWarning: true, signal: true },
};
/** Options of everything that comes from a repo or folder. */
export const HUB_OPTIONS: readonly string[] = Object.keys(NAMES);

/** The bundled demo, wherever a repo id is expected; a folder of that name is `./demo`. */
export const DEMO_MODEL = 'demo';

/** What `fromPretrained` loads from: a repo id on the Hub, a folder, {@link DEMO_MODEL}, or any of these as `resolveRepo` has resolved it. */
export type ModelSource = typeof DEMO_MODEL | (string & Record<never, never>) | Repo;

/** As the Hub resolves it, but for the demo, which keeps its name in messages. */
async function resolveSource(idOrFolder: string, options: HubOptions): Promise<Repo> {
  if (idOrFolder !== DEMO_MODEL) return resolve(idOrFolder, options);
  const repo = await resolve(join(packageRoot(), 'configs', 'demo-model'), options);
  return repo instanceof FolderRepo ? new FolderRepo(DEMO_MODEL, repo.folder, options) : repo;
}

/**
 * Resolves a repo or folder once, for several loads: they all see the same commit, also when the branch moves meanwhile, and the
 * Hub is asked but once. The result is taken wherever an id or folder is.
 *
 * @param idOrFolder repo id on the Hub, or a folder
 * @throws HubError when it is neither, or the repo, revision or cache entry does not exist; AbortError
 */
export async function resolveRepo(
  idOrFolder: string,
  options: HubOptions = {},
  ...rest: never[]
): Promise<Repo> {
  checkOptions(options, HUB_OPTIONS, 'resolveRepo');
  noMore(rest, 'resolveRepo', 'options go into the second');
  return abortable(options.signal, 'resolving the repo', () => resolveSource(idOrFolder, options));
}

/** Options that say which repo is meant and where its files come from: settled, once it is resolved. */
const SETTLED = ['revision', 'token', 'cacheDir', 'subfolder', 'localFilesOnly', 'forceDownload'] as const;

/**
 * The repo of a load. One that is resolved already is used as it is, with the signal and progress of this load.
 *
 * @throws InputError for an option that a resolved repo leaves no room for
 */
export async function openRepo(source: ModelSource, options: HubOptions): Promise<Repo> {
  if (!isResolved(source)) return resolveSource(source, options);
  const late = SETTLED.find((name) => (options[name] ?? false) !== false);
  if (late !== undefined) {
    throw new InputError(
      `${late} is ${late === 'token' ? 'given' : show(options[late])}, but ${source.id} is resolved already; pass it to resolveRepo`,
    );
  }
  const { signal, onProgress, onWarning } = options;
  const own = signal ?? onProgress ?? onWarning;
  return own === undefined ? source : (source.with?.({ signal, onProgress, onWarning }) ?? source);
}

export function isResolved(source: unknown): source is Repo {
  return typeof source === 'object' && source !== null && typeof (source as Repo).requireAll === 'function';
}
