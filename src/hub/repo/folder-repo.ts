import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { abortIf, HubError } from '../../errors.ts';
import { isReadableFile, unreadable } from '../../files.ts';
import type { Repo, RepoFile, RepoOptions } from '../types.ts';
import { explainContents } from './contents.ts';
import { checkFileName, isRepoId } from './names.ts';

/** A plain folder on this disk; what lies in it is all there is. */
export class FolderRepo implements Repo {
  readonly commit = undefined;
  readonly id: string;
  /** Absolute path. */
  readonly folder: string;
  readonly #signal: AbortSignal | undefined;

  constructor(id: string, folder: string, { signal }: RepoOptions = {}) {
    this.id = id;
    this.folder = folder;
    this.#signal = signal;
  }

  with(options: RepoOptions): FolderRepo {
    return new FolderRepo(this.id, this.folder, { signal: options.signal ?? this.#signal });
  }

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    abortIf(this.#signal, `loading ${this.id}`);
    const path = join(this.folder, name);
    return (await isReadableFile(path)) ? path : undefined;
  }

  async look(name: string): Promise<RepoFile | undefined> {
    const path = await this.file(name);
    return path === undefined ? undefined : { path, size: (await stat(path)).size };
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    const paths = await Promise.all(names.map((name) => this.file(name)));
    const missing = names.filter((_, i) => paths[i] === undefined);
    if (missing.length > 0) {
      const way = (await this.explain()) || this.#wayOn();
      throw new HubError(`${this.folder} lacks ${missing.join(', ')}. ${way}`);
    }
    return paths as string[];
  }

  async filesIn(folder: string): Promise<readonly string[]> {
    checkFileName(folder);
    return readdir(join(this.folder, folder)).catch(() => []);
  }

  /** @throws HubError where the folder cannot be read */
  async explain(): Promise<string> {
    const names = await readdir(this.folder).catch((error) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
      throw unreadable(this.folder, error);
    });
    return explainContents(names.sort(), (name) => this.file(name));
  }

  #wayOn(): string {
    // Its name would do for a repo, which may have been meant.
    if (isRepoId(this.id))
      return 'A folder that exists goes before a repo of the same name: complete it, or move it out of the way';
    return 'Complete the folder, or load the model by its repo id';
  }
}
