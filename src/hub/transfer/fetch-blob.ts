import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HubError, warn } from '../../errors.ts';
import type { CacheLayout } from '../cache/layout.ts';
import { withLock } from '../cache/lock.ts';
import type { RemoteFile } from '../repo/metadata.ts';
import type { HubConnection } from './connection.ts';
import { diskError, freeBytes } from './disk-errors.ts';
import { ContentError, receive } from './receive.ts';

/** A continued file may carry damage of its earlier part; a whole one that is wrong twice will stay wrong. */
const WHOLE_FETCHES = 2;

/**
 * Puts a file's blob into the cache: under a lock, through a partial file, checked by size and hash before it gets its
 * final name. Another process that fetches the same blob is waited for.
 *
 * @param force fetch even what is there
 */
export async function fetchBlob(
  hub: HubConnection,
  layout: CacheLayout,
  commit: string,
  file: RemoteFile,
  force: boolean,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const folder = dirname(layout.blob(file.etag));
  try {
    await mkdir(folder, { recursive: true });
    await withLock(
      join(layout.locks, `${file.etag}.switchyard`),
      hub.signal,
      async () => {
        if (!force && (await hasBlob(layout, file))) return onBytes(file.size);
        await fetchWhole(hub, layout, commit, file, force, onBytes);
      },
      (owner) => {
        // Two loads in one process wait for each other in silence.
        if (owner !== process.pid)
          warn(`waiting for process ${owner}, which is fetching ${file.path} of ${hub.id}`);
      },
    );
  } catch (error) {
    throw await diskError(error, file.path, folder, file.size);
  }
}

/** Whether the blob is here with the announced size; one of another size cannot be what its name says. */
export async function hasBlob(
  layout: CacheLayout,
  file: RemoteFile,
  complain: (message: string) => void = () => {},
): Promise<boolean> {
  const found = await stat(layout.blob(file.etag)).catch(() => undefined);
  if (found === undefined) return false;
  if (found.isFile() && found.size === file.size) return true;
  complain(`${layout.blob(file.etag)} has ${found.size} bytes instead of ${file.size}; it is fetched again`);
  return false;
}

async function fetchWhole(
  hub: HubConnection,
  layout: CacheLayout,
  commit: string,
  file: RemoteFile,
  force: boolean,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const partial = layout.incomplete(file.etag);
  if (force) await rm(partial, { force: true });
  await checkSpace(partial, file);
  for (let fetches = 1; ; fetches++) {
    try {
      await receive(hub, commit, file, partial, onBytes);
      break;
    } catch (error) {
      if (!(error instanceof ContentError)) throw error;
      await rm(partial, { force: true });
      if (fetches > WHOLE_FETCHES)
        throw new HubError(`${error.message}. Nothing of it was kept`, { cause: error });
    }
  }
  await rename(partial, layout.blob(file.etag));
}

async function checkSpace(partial: string, file: RemoteFile): Promise<void> {
  const here = (await stat(partial).catch(() => undefined))?.size ?? 0;
  const free = await freeBytes(dirname(partial));
  if (free !== undefined && file.size - here > free) {
    throw Object.assign(new Error('the file does not fit'), { code: 'ENOSPC' });
  }
}
