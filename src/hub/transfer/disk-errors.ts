import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError } from '../../errors.ts';
import { freeSpace } from '../../files.ts';
import { formatBytes } from '../../units.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { RemoteFile } from './remote-file.ts';

/** What is wrong with a place where something cannot be written, and what to do. */
const REFUSALS: Readonly<Record<string, string>> = {
  EACCES: 'cannot be written: permission is missing (EACCES). Change its permissions, or set HF_HUB_CACHE',
  EPERM:
    'cannot be written: the system does not permit it (EPERM). Change its permissions, or set HF_HUB_CACHE',
  EROFS:
    'cannot be written: its file system is read-only (EROFS). Set HF_HUB_CACHE to a folder that can be written',
  ENOTDIR: 'is no folder: a part of its path is a file (ENOTDIR). Set HF_HUB_CACHE to another place',
  EEXIST: 'is no folder: a file of that name is in the way (EEXIST). Remove it, or set HF_HUB_CACHE',
  EISDIR: 'has a folder where a file should be (EISDIR). Remove it, or set HF_HUB_CACHE',
  ELOOP: 'cannot be opened: its symbolic links lead in a circle (ELOOP). Mend them, or set HF_HUB_CACHE',
  ENAMETOOLONG: 'cannot be opened: its path is too long (ENAMETOOLONG). Set HF_HUB_CACHE to a shorter one',
  EIO: 'cannot be written: the disk reports a fault (EIO). Set HF_HUB_CACHE to another one',
  EMFILE: 'cannot be opened: this process has too many files open (EMFILE). Raise the limit (ulimit -n)',
  ENFILE: 'cannot be opened: this machine has too many files open (ENFILE)',
};

/** On Windows, a file that somebody has open cannot be replaced or removed, and mostly that is why. */
const IN_USE_ON_WINDOWS =
  'cannot be written: a program has it open, or permission is missing (CODE). End what uses the model, change the permissions, or set HF_HUB_CACHE';

function refusalOf(code: string, platform: NodeJS.Platform): string | undefined {
  if (platform === 'win32' && /^(EACCES|EPERM|EBUSY)$/.test(code))
    return IN_USE_ON_WINDOWS.replace('CODE', code);
  return REFUSALS[code];
}

/** Turns what the file system says while a blob is written into an error with a remedy; other errors pass through. */
export async function diskError(
  error: unknown,
  file: string,
  folder: string,
  bytesLeft: number,
  platform: NodeJS.Platform = process.platform,
): Promise<unknown> {
  const { code = '', path, syscall } = error as NodeJS.ErrnoException;
  const options = { cause: error };
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new HubError(
      `${await fullInWords(code, file, folder, bytesLeft)}, or point HF_HUB_CACHE to another disk`,
      options,
    );
  }
  if (code === 'EFBIG') {
    return new HubError(
      `${file} needs ${formatBytes(bytesLeft)} more, and the file system or the limit of this process (ulimit -f) does not ` +
        `allow files that large in ${folder} (EFBIG). Raise the limit, or point HF_HUB_CACHE to another disk`,
      options,
    );
  }
  const refusal = refusalOf(code, platform);
  if (refusal) return new HubError(`${path ?? folder} ${refusal}`, options);
  if (syscall === undefined || error instanceof HubError) return error;
  return new HubError(
    `${path ?? folder} cannot be written (${code}). Check the disk, or set HF_HUB_CACHE`,
    options,
  );
}

async function fullInWords(code: string, file: string, folder: string, bytesLeft: number): Promise<string> {
  const found = await statfs(folder).catch(() => undefined);
  const free = await freeSpace(folder);
  const kept = 'What has arrived is kept and will be continued; free some space';
  const need = `${file} needs ${formatBytes(bytesLeft)} more`;
  if (code === 'EDQUOT') return `quota used up: ${need} in ${folder} (EDQUOT). ${kept}`;
  if (free === undefined) return `disk full: ${need} in ${folder}. ${kept}`;
  if (free <= bytesLeft) return `disk full: ${need} and ${formatBytes(free)} are free in ${folder}. ${kept}`;
  // Small files use up the entries of a file system long before its bytes.
  const what =
    found && found.files > 0 && found.ffree === 0 ? 'no more files (its inodes are used up)' : 'no more';
  return `disk full: ${need}, and the file system of ${folder} takes ${what}, though ${formatBytes(free)} are free. ${kept}`;
}

/** @throws an error as the file system would, before the first byte of a file that does not fit */
export async function checkSpace(partial: string, size: number): Promise<void> {
  const here = (await stat(partial).catch(() => undefined))?.size ?? 0;
  const free = await freeSpace(dirname(partial));
  if (free !== undefined && size - here > free) {
    throw Object.assign(new Error('the file does not fit'), { code: 'ENOSPC' });
  }
}

/**
 * Looks whether all files of a load fit, less what of them has arrived already.
 * @throws HubError before the first byte of any
 */
export async function checkRoom(files: readonly RemoteFile[], layout: CacheLayout): Promise<void> {
  if (files.length < 2) return;
  const free = await freeSpace(layout.folder);
  const left = await Promise.all(
    files.map(
      async ({ etag, size }) =>
        size - ((await stat(layout.incomplete(etag)).catch(() => undefined))?.size ?? 0),
    ),
  );
  const bytes = left.reduce((a, b) => a + b, 0);
  if (free === undefined || bytes <= free) return;
  throw new HubError(
    `disk full: ${files.length} files need ${formatBytes(bytes)} more, and ${formatBytes(free)} are free in ${layout.folder}. ` +
      'Nothing was fetched; free some space, or point HF_HUB_CACHE to another disk',
  );
}
