import { join } from 'node:path';
import { HubError } from '../../errors.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { Repo } from '../types.ts';
import { checkFileName } from './names.ts';

/** A commit of a repo as far as the cache has it; the network is not touched. */
export class CachedRepo implements Repo {
  constructor(
    readonly id: string,
    readonly commit: string,
    private readonly layout: CacheLayout,
    private readonly subfolder: string,
    /** Why the network is not used, for messages: "offline mode is on". */
    private readonly reason: string,
  ) {}

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    return this.layout.cached(this.commit, join(this.subfolder, name));
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    const paths = await Promise.all(names.map((name) => this.file(name)));
    const missing = names.filter((_, i) => paths[i] === undefined);
    if (missing.length > 0) {
      throw new HubError(
        `${this.id} at commit ${this.commit}: ${missing.join(', ')} not in the cache at ${this.layout.folder}, ` +
          `and ${this.reason}. With the network on, "switchyard download ${this.id}" fetches what is missing`,
      );
    }
    return paths as string[];
  }
}
