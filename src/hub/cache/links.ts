import { constants, copyFile, link, rm, symlink } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { replaceFile } from '../../files.ts';
import { symlinksDisabled } from '../environment.ts';

/** Whether a disk cannot hold symbolic links (FAT, exFAT, some network shares), or nobody may make any (Windows outside of its Developer Mode). */
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
  if (!(await makeSymlink(relative(dirname(path), blob), temporary))) {
    const isLinked = await link(blob, temporary).then(
      () => true,
      () => false,
    );
    if (!isLinked && isNew) return replaceFile(blob, path);
    if (!isLinked) await copyFile(blob, temporary, constants.COPYFILE_FICLONE);
  }
  try {
    await replaceFile(temporary, path);
  } finally {
    // Between two links to one file, rename does nothing.
    await rm(temporary, { force: true });
  }
}

/** Whether there is one now. */
async function makeSymlink(target: string, path: string): Promise<boolean> {
  if (symlinksDisabled()) return false;
  try {
    await symlink(target, path);
    return true;
  } catch (error) {
    if (lacksSymlinks(error)) return false;
    throw error;
  }
}
