import { posix } from 'node:path';
import { HubError, warn } from '../../errors.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { HubConnection } from '../transfer/connection.ts';
import { fetchBlob, hasBlob } from '../transfer/fetch-blob.ts';
import { Limiter } from '../transfer/limiter.ts';
import { RefusedError } from '../transfer/refusal.ts';
import { throwIfAborted, UnreachableError } from '../transfer/retry.ts';
import { TransferTotals } from '../transfer/transfer-totals.ts';
import type { ProgressEvent, Repo } from '../types.ts';
import { type RemoteFile, remoteFile } from './metadata.ts';
import { checkFileName } from './names.ts';

export interface HubRepoOptions {
  readonly commit: string;
  /** The hub has just named the commit; false for one that the caller gave. */
  readonly resolved: boolean;
  /** Every file of the commit, or undefined if the hub did not list them. */
  readonly files: ReadonlySet<string> | undefined;
  readonly subfolder: string;
  readonly force: boolean;
  readonly onProgress: ((event: ProgressEvent) => void) | undefined;
}

/** What to do for one file of a load. */
type Plan =
  | { readonly kind: 'here'; readonly path: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'fetch'; readonly file: RemoteFile; readonly onBytes: (bytes: number) => void };

/** A commit of a repo on the hub. Files come from the cache, and into it when first asked for. */
export class HubRepo implements Repo {
  readonly id: string;
  readonly commit: string;
  readonly #totals: TransferTotals;
  readonly #limiter: Limiter;
  readonly #plans = new Map<string, Promise<Plan>>();
  readonly #paths = new Map<string, Promise<string | undefined>>();
  #refWritten: Promise<void> | undefined;
  #answered: boolean;
  #down = false;

  constructor(
    private readonly hub: HubConnection,
    private readonly layout: CacheLayout,
    private readonly options: HubRepoOptions,
  ) {
    this.id = hub.id;
    this.commit = options.commit;
    this.#answered = options.resolved;
    this.#totals = new TransferTotals(options.onProgress);
    this.#limiter = new Limiter(hub.settings.filesAtOnce);
  }

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    return this.#obtain(name, this.hub);
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    for (const name of names) checkFileName(name);
    // Sizes first, so that progress knows the whole, and nothing is fetched for a load that cannot succeed.
    const plans = await together(this.hub, names, (name) => this.#plan(name));
    const missing = names.filter((_, i) => plans[i]?.kind === 'absent');
    if (missing.length > 0) {
      throw new HubError(
        `${this.id} at commit ${this.commit} has no ${missing.join(', ')}. Check the repo at ${this.hub.endpoint}/${this.id}`,
      );
    }
    return (await together(this.hub, names, (name, hub) => this.#obtain(name, hub))) as string[];
  }

  #obtain(name: string, hub: HubConnection): Promise<string | undefined> {
    return once(this.#paths, name, async () => this.#carryOut(await this.#plan(name), hub));
  }

  #plan(name: string): Promise<Plan> {
    return once(this.#plans, name, () => this.#limiter.run(() => this.#makePlan(name)));
  }

  async #makePlan(name: string): Promise<Plan> {
    throwIfAborted(this.hub.signal);
    const { layout, commit } = this;
    const path = posix.join(this.options.subfolder, name);
    const cached = await layout.cached(commit, path);
    if (cached !== undefined && !this.options.force) {
      await this.#writeRef();
      return { kind: 'here', path: cached };
    }
    const listed = this.options.files?.has(path);
    if (listed === false || (!listed && !this.options.force && (await layout.knownMissing(commit, path)))) {
      return { kind: 'absent' };
    }
    const file = await this.#remoteFile(path);
    if (file === undefined) return { kind: 'absent' };
    if (!this.options.force && (await hasBlob(layout, file, warn))) {
      return { kind: 'here', path: await this.#link(file) };
    }
    return { kind: 'fetch', file, onBytes: this.#totals.add(path, file.size) };
  }

  async #remoteFile(path: string): Promise<RemoteFile | undefined> {
    if (this.#down) return undefined;
    try {
      const file = await remoteFile(this.hub, this.commit, path);
      this.#answered = true;
      if (file === undefined) await this.layout.rememberMissing(this.commit, path);
      return file;
    } catch (error) {
      // Pinned to a commit, the hub was never asked before: what an earlier load cached may be all that is needed.
      const passes = error instanceof UnreachableError || error instanceof RefusedError;
      if (!passes || this.#answered || this.options.force || !(await this.layout.hasSnapshot(this.commit)))
        throw error;
      this.#down = true;
      warn(`${error.message}. The load goes on with the files in the cache`);
      return undefined;
    }
  }

  async #carryOut(plan: Plan, hub: HubConnection): Promise<string | undefined> {
    if (plan.kind === 'absent') return undefined;
    if (plan.kind === 'here') return plan.path;
    const { file, onBytes } = plan;
    return this.#limiter.run(async () => {
      throwIfAborted(hub.signal);
      await fetchBlob(hub, this.layout, this.commit, file, this.options.force, onBytes);
      return this.#link(file);
    });
  }

  async #link(file: RemoteFile): Promise<string> {
    const path = await this.layout.link(this.commit, file.path, file.etag);
    await this.#writeRef();
    return path;
  }

  /** After the first file, so that a ref never points to a snapshot that is not there. */
  #writeRef(): Promise<void> {
    this.#refWritten ??= this.layout.writeRef(this.hub.revision, this.commit);
    return this.#refWritten;
  }
}

/** Shares one run among all who ask; a failed one may be asked again. */
function once<T>(runs: Map<string, Promise<T>>, key: string, run: () => Promise<T>): Promise<T> {
  let running = runs.get(key);
  if (running === undefined) {
    running = run();
    runs.set(key, running);
    running.catch(() => runs.delete(key));
  }
  return running;
}

/**
 * As `Promise.all` over `names`, but the first failure ends the other transfers, and it rejects only when nothing is
 * running any more.
 */
async function together<T>(
  hub: HubConnection,
  names: readonly string[],
  task: (name: string, hub: HubConnection) => Promise<T>,
): Promise<T[]> {
  const group = new AbortController();
  const end = () => group.abort(hub.signal?.reason);
  if (hub.signal?.aborted) end();
  hub.signal?.addEventListener('abort', end);
  let failure: unknown;
  const running = names.map(async (name) => {
    try {
      return await task(name, { ...hub, signal: group.signal });
    } catch (error) {
      failure ??= error;
      group.abort();
      throw error;
    }
  });
  const results = await Promise.allSettled(running);
  hub.signal?.removeEventListener('abort', end);
  if (failure !== undefined) throw failure;
  return results.map((result) => (result as PromiseFulfilledResult<Awaited<T>>).value);
}
