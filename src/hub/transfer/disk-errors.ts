import { statfs } from 'node:fs/promises';
import { HubError } from '../../errors.ts';
import { formatBytes } from '../../units.ts';

/** Turns what the file system says while a blob is written into an error with a remedy; other errors pass through. */
export async function diskError(
  error: unknown,
  path: string,
  folder: string,
  bytesLeft: number,
): Promise<unknown> {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const free = await freeBytes(folder);
    return new HubError(
      `disk full: ${path} needs ${formatBytes(bytesLeft)} more` +
        `${free === undefined ? '' : ` and ${formatBytes(free)} are free`} in ${folder}. ` +
        'What has arrived is kept and will be continued; free some space, or point HF_HUB_CACHE to a larger disk',
      { cause: error },
    );
  }
  if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') {
    return new HubError(
      `${folder} cannot be written (${code}). Change its permissions, or set HF_HUB_CACHE`,
      {
        cause: error,
      },
    );
  }
  return error;
}

/** Bytes this user may still write at `folder`, or undefined where the file system does not say. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  const found = await statfs(folder).catch(() => undefined);
  return found && found.blocks > 0 ? found.bavail * found.bsize : undefined;
}
