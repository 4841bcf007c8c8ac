import {
  access,
  constants,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError, InputError } from './errors.ts';
import { partialPath } from './partial-paths.ts';

/**
 * Where Switchyard keeps what it has worked out: SWITCHYARD_CACHE, else `switchyard` in XDG_CACHE_HOME, or in ~/.cache, on Windows
 * LOCALAPPDATA.
 */
export function ownCacheFolder(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  const usual = platform === 'win32' ? env.LOCALAPPDATA : undefined;
  const caches = env.XDG_CACHE_HOME || usual || join(homedir(), '.cache');
  return env.SWITCHYARD_CACHE || join(caches, 'switchyard');
}

/** Why a path cannot be read, and what to do, by the system's code. */
const CAUSES: Readonly<Record<string, string>> = {
  EACCES:
    'permission to read it is missing (EACCES). Change the permissions of the file, or of a folder above it',
  EPERM: 'the system does not permit it (EPERM). Change the permissions of the file, or of a folder above it',
  ELOOP: 'its symbolic links lead in a circle (ELOOP). Mend them',
  ENAMETOOLONG: 'its path is too long (ENAMETOOLONG)',
  ENOENT: 'there is no such file (ENOENT)',
  ENOTDIR: 'a part of its path is no folder (ENOTDIR)',
  EISDIR: 'it is a folder (EISDIR)',
  EFBIG: 'it is larger than this system can open (EFBIG)',
  EOVERFLOW: 'it is larger than this system can open (EOVERFLOW)',
  EIO: 'the disk reports a fault (EIO)',
  ESTALE: 'the network share that it lies on has changed (ESTALE). Mount it anew',
  EMFILE: 'this process has too many files open (EMFILE). Raise the limit (ulimit -n)',
  ENFILE: 'this machine has too many files open (ENFILE)',
};

/** Why a file or folder cannot be read, by what the system says. */
export function whyUnreadable(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return CAUSES[code] ?? (code || message);
}

/** The error for a file or folder that the system does not let us read. */
export function unreadable(path: string, error: unknown): HubError {
  return new HubError(`${path} cannot be read: ${whyUnreadable(error)}`, { cause: error });
}

/**
 * Whether a regular file that may be read lies at a path. A link to it will do; one that leads nowhere, a pipe or device, on which
 * reading might never end, and a folder are faults.
 *
 * @returns false where nothing is there
 * @throws HubError naming the path and what is wrong with it
 */
export async function isReadableFile(path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    if (!found.isFile()) {
      const isFolder = found.isDirectory();
      const kind = isFolder ? 'a folder' : 'a pipe, socket or device';
      const place = isFolder ? '; some tools leave the file itself inside' : '';
      throw new HubError(
        `${path} is not a regular file, but ${kind}. Move it away, and put the file in its place${place}`,
      );
    }
    await access(path, constants.R_OK);
    return true;
  } catch (error) {
    if (error instanceof HubError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') return false;
    if (code !== 'ENOENT') throw unreadable(path, error);
    const link = await lstat(path).catch(() => undefined);
    if (!link?.isSymbolicLink()) return false;
    const target = await readlink(path).catch(() => '');
    throw new HubError(
      `${path} is a symbolic link to ${target}, and nothing is there. Mend or remove the link`,
      {
        cause: error,
      },
    );
  }
}

/**
 * Runs what reads a file; where the system does not let it, the error says so in words.
 *
 * @throws HubError naming the path; whatever else `read` throws
 */
export async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : unreadable(path, error);
  }
}

/** Why a file cannot be written, by what the system says. */
export function whyUnwritable(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return WRITE_CAUSES[code] ?? message;
}

/** The error of a file of the caller's that cannot be written. @param remedy a sentence, where there is more to do than the cause says */
export function unwritable(path: string, error: unknown, remedy?: string): InputError {
  const why = [whyUnwritable(error), ...(remedy === undefined ? [] : [remedy])].join('. ');
  return new InputError(`${path} cannot be written: ${why}`, { cause: error });
}

const WRITE_CAUSES: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full, or takes no more files (ENOSPC); free some space',
  EDQUOT: 'the quota of the disk is used up (EDQUOT); free some space',
  EFBIG: 'it becomes larger than the file system or a limit of this process (ulimit -f) allows (EFBIG)',
  EROFS: 'its file system is read-only (EROFS)',
  EACCES: 'permission is missing (EACCES)',
  EISDIR: 'it is a folder (EISDIR)',
  ENAMETOOLONG: 'its path is too long (ENAMETOOLONG)',
  ENOENT: 'there is no such folder (ENOENT)',
  ENOTDIR: 'a part of its path is no folder (ENOTDIR)',
};

/** How Windows refuses what a file in use does not allow; permission may be missing as well. */
const IN_USE = /^(EPERM|EACCES|EBUSY)$/;
const RETRIES = process.platform === 'win32' ? 5 : 0;
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

/** Whether Windows refused something because a file is in use; elsewhere files in use are in nobody's way. */
export function isInUse(error: unknown, platform: NodeJS.Platform = process.platform): boolean {
  return platform === 'win32' && IN_USE.test((error as NodeJS.ErrnoException).code ?? '');
}

/**
 * Gives a file or folder another name on its disk, in one step, in place of whatever has that name. Windows refuses that while somebody has
 * one of them open, as scanners do with new files for a moment: there it is tried for two seconds.
 */
export async function replaceFile(
  from: string,
  to: string,
  platform: NodeJS.Platform = process.platform,
): Promise<void> {
  for (let pause = FIRST_PAUSE_MS; ; pause *= 2) {
    try {
      return await rename(from, to);
    } catch (error) {
      if (!isInUse(error, platform) || pause > LONGEST_PAUSE_MS) throw error;
      await sleep(pause);
    }
  }
}

/**
 * Writes a file, all or nothing: where that fails, as on a full disk, what was there is there still, and else nothing is. Links are followed,
 * and pipes and devices written to as they are.
 *
 * @param isNew refuses to replace a file, with the system's EEXIST
 * @param mode of a file that was not there
 * @throws whatever the file system throws
 */
export async function writeWholeFile(
  path: string,
  content: string | Uint8Array,
  { isNew = false, mode = 0o666 }: { readonly isNew?: boolean; readonly mode?: number } = {},
): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const there = await stat(target).catch(() => undefined);
  if (there && !isNew && !there.isFile()) return writeFile(target, content);
  if (!there || isNew) {
    const file = await open(target, 'wx', mode);
    return fill(file, target, content);
  }
  const partial = await partialPath(target);
  const file = await open(partial, 'wx', there.mode & 0o777);
  await fill(file, partial, content);
  await replaceFile(partial, target).catch(async (error: unknown) => {
    await rm(partial, { force: true });
    throw error;
  });
}

/** Fills a new file and closes it; where that fails, it is gone. */
async function fill(file: FileHandle, path: string, content: string | Uint8Array): Promise<void> {
  try {
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

const ATTEMPTS = 10;

/**
 * Makes a folder and those above it, where they are missing. Node's own way of that never ends where the system says of a folder that is
 * there that nothing can be made in it because it is not there, as of /proc.
 */
export async function makeFolder(path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await mkdir(path);
    } catch (error) {
      if (await isFolder(path)) return;
      const above = dirname(path);
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT' && above !== path;
      if (!isMissing || attempt === ATTEMPTS) throw error;
      // Others may have made it, or removed it again, since.
      if (!(await isFolder(above))) await makeFolder(above);
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/**
 * Removes a file, or a folder with all that is in it; of symbolic links only the links.
 *
 * @throws HubError naming the path and what helps
 */
export async function removePath(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: RETRIES });
  } catch (error) {
    const remedy = isInUse(error) ? 'End what has it open, or change' : 'Change';
    throw new HubError(`${path} cannot be removed: ${(error as Error).message}. ${remedy} its permissions`, {
      cause: error,
    });
  }
}

/** Bytes that this user may still write where a path is, or will be; undefined where the file system does not say. */
export async function freeSpace(path: string): Promise<number | undefined> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await statfs(folder).catch(() => undefined);
    if (found) return found.blocks > 0 ? found.bavail * found.bsize : undefined;
    if (dirname(folder) === folder) return undefined;
  }
}
