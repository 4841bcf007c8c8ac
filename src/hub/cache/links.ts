import { constants, copyFile, link, rename, rm, symlink } from 'node:fs/promises';
import { dirname, relative } from 'node:path';

/** Whether a disk cannot hold symbolic links (FAT, exFAT, some network shares), or nobody may make any. */
export function lacksSymlinks(error: unknown): boolean {
  return /^(EPERM|ENOTSUP|EOPNOTSUPP|ENOSYS|EINVAL|EIO)$/.test((error as NodeJS.ErrnoException).code ?? '');
}

/**
 * Makes `path` show a blob: as a relative symlink, else as a hard link, else as a file of its own. Of these a new blob
 * becomes the file, and one that others may use is copied (huggingface_hub, `_create_symlink`).
 *
 * @param temporary a free name on the same disk, so that `path` changes in one step
 * @param isNew the blob was written just now
 */
export async function showBlob(blob: string, path: string, temporary: string, isNew: boolean): Promise<void> {
  try {
    await symlink(relative(dirname(path), blob), temporary);
  } catch (error) {
    if (!lacksSymlinks(error)) throw error;
    const isLinked = await link(blob, temporary).then(
      () => true,
      () => false,
    );
    if (!isLinked && isNew) return rename(blob, path);
    if (!isLinked) await copyFile(blob, temporary, constants.COPYFILE_FICLONE);
  }
  try {
    await rename(temporary, path);
  } finally {
    // Between two links to one file, rename does nothing.
    await rm(temporary, { force: true });
  }
}
