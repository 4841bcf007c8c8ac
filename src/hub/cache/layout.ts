import { randomUUID } from 'node:crypto';
import { access, constants, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder, replaceFile, unreadable } from '../../files.ts';
import { isCommit } from '../repo/names.ts';
import { showBlob } from './links.ts';

/**
 * One repo's folder in the standard cache of huggingface_hub: `blobs/<etag>` hold the bytes, `snapshots/<commit>/…` are
 * symlinks to them (where the disk has none: links or files of their own), `refs/<branch>` hold commits,
 * `.no_exist/<commit>/…` remember what a commit lacks. The last two are notes for next time: a cache that cannot be written
 * does without.
 */
export class CacheLayout {
  readonly folder: string;
  readonly locks: string;

  constructor(cacheDir: string, id: string) {
    const name = `models--${id.replace('/', '--')}`;
    this.folder = join(cacheDir, name);
    this.locks = join(cacheDir, '.locks', name);
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag);
  }

  /** What an interrupted download of a blob leaves behind, also one of huggingface_hub, and the next one continues. */
  incomplete(etag: string): string {
    return `${this.blob(etag)}.incomplete`;
  }

  /** What huggingface_hub locks while it fetches a blob. */
  foreignLock(etag: string): string {
    return join(this.locks, `${etag}.lock`);
  }

  /** Where no lock can be had, nobody else must write to what this process writes. */
  incompleteOfOwn(etag: string): string {
    return `${this.blob(etag)}.${randomUUID()}.incomplete`;
  }

  snapshot(commit: string, name = ''): string {
    return join(this.folder, 'snapshots', commit, name);
  }

  ref(revision: string): string {
    return join(this.folder, 'refs', revision);
  }

  noExist(commit: string, name: string): string {
    return join(this.folder, '.no_exist', commit, name);
  }

  /** The commit a revision stood for when it was last asked, or undefined. */
  async readRef(revision: string): Promise<string | undefined> {
    const text = (await ifThere(this.ref(revision), (path) => readFile(path, 'utf8'))) ?? '';
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** Notes the commit of a revision; a commit needs no ref, but scanners expect the folder. */
  async writeRef(revision: string, commit: string): Promise<void> {
    await noted(async () => {
      await makeFolder(join(this.folder, 'refs'));
      if (revision === commit || (await this.readRef(revision)) === commit) return;
      await makeFolder(dirname(this.ref(revision)));
      const temporary = await this.#temporary();
      await writeFile(temporary, commit);
      await replaceFile(temporary, this.ref(revision));
    });
  }

  /** Whether files of another commit could be put here. */
  async isWritable(): Promise<boolean> {
    return access(join(this.folder, 'snapshots'), constants.W_OK).then(
      () => true,
      () => false,
    );
  }

  /** A file of a commit if its bytes are here; a dangling symlink counts as absent. */
  async cached(commit: string, name: string): Promise<{ path: string; size: number } | undefined> {
    const path = this.snapshot(commit, name);
    const found = await ifThere(path, (at) => stat(at));
    return found?.isFile() ? { path, size: found.size } : undefined;
  }

  async hasSnapshot(commit: string): Promise<boolean> {
    return (await ifThere(this.snapshot(commit), stat)) !== undefined;
  }

  async knownMissing(commit: string, name: string): Promise<boolean> {
    return (await stat(this.noExist(commit, name)).catch(() => undefined)) !== undefined;
  }

  /** Notes that a commit has no such file. */
  async rememberMissing(commit: string, name: string): Promise<void> {
    const path = this.noExist(commit, name);
    await noted(async () => {
      await makeFolder(dirname(path));
      await writeFile(path, '');
    });
  }

  /**
   * Makes `snapshots/<commit>/<name>` show a blob, replacing what was there in one step.
   *
   * @param isNew the blob was written just now; one that was there already is used in place if the cache cannot be written
   * @returns the path to read the file at
   */
  async link(commit: string, name: string, etag: string, isNew: boolean): Promise<string> {
    const path = this.snapshot(commit, name);
    try {
      await makeFolder(dirname(path));
      await showBlob(this.blob(etag), path, await this.#temporary(), isNew);
      return path;
    } catch (error) {
      if (isNew || !/^(EACCES|EPERM|EROFS)$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
      return this.blob(etag);
    }
  }

  /** A name on the same disk where a killed process's leavings are in nobody's way, if there is such a place. */
  async #temporary(): Promise<string> {
    const name = `${randomUUID()}.temporary`;
    const usable = await makeFolder(this.locks)
      .then(() => access(this.locks, constants.W_OK))
      .then(
        () => true,
        () => false,
      );
    return join(usable ? this.locks : this.folder, name);
  }
}

/** What `look` finds at a path, or undefined where nothing is. @throws HubError where that cannot be told */
async function ifThere<T>(path: string, look: (path: string) => Promise<T>): Promise<T | undefined> {
  try {
    return await look(path);
  } catch (error) {
    if (/^(ENOENT|ENOTDIR|EISDIR)$/.test((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw unreadable(path, error);
  }
}

/** A note that cannot be written, for whatever reason, is worth no failure. */
async function noted(write: () => Promise<void>): Promise<void> {
  await write().catch(() => {});
}
