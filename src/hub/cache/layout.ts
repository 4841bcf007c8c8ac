import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { isCommit } from '../repo/names.ts';

/**
 * One repo's folder in the standard cache of huggingface_hub: `blobs/<etag>` hold the bytes, `snapshots/<commit>/…` are
 * symlinks to them, `refs/<branch>` hold commits, `.no_exist/<commit>/…` remember what a commit lacks.
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

  /** What an interrupted download of a blob leaves behind, and the next one continues. */
  incomplete(etag: string): string {
    return `${this.blob(etag)}.incomplete`;
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
    const text = await readFile(this.ref(revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** Remembers the commit of a revision; a commit needs no ref, but scanners expect the folder. */
  async writeRef(revision: string, commit: string): Promise<void> {
    await mkdir(join(this.folder, 'refs'), { recursive: true });
    if (revision === commit || (await this.readRef(revision)) === commit) return;
    await mkdir(dirname(this.ref(revision)), { recursive: true });
    const temporary = await this.#temporary();
    await writeFile(temporary, commit);
    await rename(temporary, this.ref(revision));
  }

  /** Path of a file of a commit if its bytes are here; a dangling symlink counts as absent. */
  async cached(commit: string, name: string): Promise<string | undefined> {
    const path = this.snapshot(commit, name);
    const found = await stat(path).catch(() => undefined);
    return found?.isFile() ? path : undefined;
  }

  async hasSnapshot(commit: string): Promise<boolean> {
    return (await stat(this.snapshot(commit)).catch(() => undefined)) !== undefined;
  }

  async knownMissing(commit: string, name: string): Promise<boolean> {
    return (await stat(this.noExist(commit, name)).catch(() => undefined)) !== undefined;
  }

  async rememberMissing(commit: string, name: string): Promise<void> {
    const path = this.noExist(commit, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, '');
  }

  /** Points `snapshots/<commit>/<name>` at a blob, replacing what was there in one step. */
  async link(commit: string, name: string, etag: string): Promise<string> {
    const path = this.snapshot(commit, name);
    await mkdir(dirname(path), { recursive: true });
    const temporary = await this.#temporary();
    await symlink(relative(dirname(path), this.blob(etag)), temporary);
    try {
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    return path;
  }

  /** A name on the same file system where a killed process's leavings are in nobody's way. */
  async #temporary(): Promise<string> {
    await mkdir(this.locks, { recursive: true });
    return join(this.locks, `${randomUUID()}.temporary`);
  }
}
