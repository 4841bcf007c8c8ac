import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../../errors.ts';
import type { Repo } from '../types.ts';
import { checkFileName } from './names.ts';

/** A plain folder on this disk; what lies in it is all there is. */
export class FolderRepo implements Repo {
  readonly commit = undefined;

  constructor(
    readonly id: string,
    /** Absolute path. */
    readonly folder: string,
  ) {}

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    const path = join(this.folder, name);
    try {
      const found = await stat(path);
      if (found.isFile()) return path;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw new HubError(`${path} cannot be read (${code})`, { cause: error });
    }
    throw new HubError(`${path} is not a regular file`);
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    const paths = await Promise.all(names.map((name) => this.file(name)));
    const missing = names.filter((_, i) => paths[i] === undefined);
    if (missing.length > 0) {
      throw new HubError(
        `${this.folder} lacks ${missing.join(', ')}. Complete the folder, or load the model by its repo id`,
      );
    }
    return paths as string[];
  }
}
