import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { abortIf, HubError } from '../../errors.ts';
import { isReadableFile } from '../../files.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { Repo, RepoFile, RepoOptions } from '../types.ts';
import { explainContents } from './contents.ts';
import { localFiles } from './local-files.ts';
import { checkFileName } from './names.ts';

export interface CachedRepoOptions extends RepoOptions {
  readonly commit: string;
  readonly subfolder: string;
  /** Why the network is not used, for messages: "offline mode is on". */
  readonly reason: string;
}

/** A commit of a repo as far as the cache has it; the network is not touched. */
export class CachedRepo implements Repo {
  readonly id: string;
  readonly commit: string;
  readonly #layout: CacheLayout;
  readonly #options: CachedRepoOptions;

  constructor(id: string, layout: CacheLayout, options: CachedRepoOptions) {
    this.id = id;
    this.commit = options.commit;
    this.#layout = layout;
    this.#options = options;
  }

  with({ signal = this.#options.signal }: RepoOptions): CachedRepo {
    return new CachedRepo(this.id, this.#layout, { ...this.#options, signal });
  }

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    abortIf(this.#options.signal, `loading ${this.id}`);
    const path = (await this.#layout.cached(this.commit, join(this.#options.subfolder, name)))?.path;
    // It is there; whether it may be read is another question.
    if (path !== undefined) await isReadableFile(path);
    return path;
  }

  async look(name: string): Promise<RepoFile | undefined> {
    return this.#layout.cached(this.commit, join(this.#options.subfolder, name));
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    const paths = await Promise.all(names.map((name) => this.file(name)));
    const missing = names.filter((_, i) => paths[i] === undefined);
    if (missing.length > 0) {
      throw new HubError(
        `${this.id} at commit ${this.commit}: ${missing.join(', ')} not in the cache at ${this.#layout.folder}, ` +
          `and ${this.#options.reason}. With the network on, "switchyard download ${this.id}" fetches what is missing${await this.#hint()}`,
      );
    }
    return paths as string[];
  }

  async filesIn(folder: string): Promise<readonly string[]> {
    checkFileName(folder);
    const snapshot = this.#layout.snapshot(this.commit, this.#options.subfolder);
    return readdir(join(snapshot, folder)).catch(() => []);
  }

  async explain(): Promise<string> {
    const folder = this.#layout.snapshot(this.commit, this.#options.subfolder);
    const files = await localFiles(folder).catch(() => []);
    return explainContents(
      files.map(({ name }) => name),
      (name) => this.file(name),
    );
  }

  async #hint(): Promise<string> {
    const text = await this.explain();
    return text === '' ? '' : `. ${text}`;
  }
}
