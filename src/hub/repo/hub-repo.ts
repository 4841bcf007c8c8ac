import { stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { abortIf, HubError, warn } from '../../errors.ts';
import { isReadableFile } from '../../files.ts';
import type { CacheLayout } from '../cache/layout.ts';
import type { HubConnection } from '../transfer/connection.ts';
import { checkRoom } from '../transfer/disk-errors.ts';
import { Download, hasBlob } from '../transfer/download.ts';
import { Limiter } from '../transfer/limiter.ts';
import { RefusedError } from '../transfer/refusal.ts';
import type { RemoteFile } from '../transfer/remote-file.ts';
import { UnreachableError } from '../transfer/retry.ts';
import { TransferTotals } from '../transfer/transfer-totals.ts';
import type { ProgressEvent, Repo, RepoFile, RepoOptions } from '../types.ts';
import { explainContents } from './contents.ts';
import { checkSize } from './file-sizes.ts';
import { remoteFile, resolveCommit } from './metadata.ts';
import { checkFileName } from './names.ts';
import { once, together } from './together.ts';

export interface HubRepoOptions {
  readonly commit: string;
  /** Every file of the commit, or undefined if the hub did not list them. */
  readonly files: ReadonlySet<string> | undefined;
  readonly subfolder: string;
  readonly force: boolean;
  readonly onProgress: ((event: ProgressEvent) => void) | undefined;
  /** Files that `force` has been served for, where several loads share the repo. */
  readonly refetched?: Set<string>;
}

/** What to do for one file of a load. */
type Plan =
  | { readonly kind: 'here'; readonly path: string }
  | { readonly kind: 'absent' }
  | {
      readonly kind: 'fetch';
      readonly file: RemoteFile;
      readonly force: boolean;
      readonly onBytes: (bytes: number) => void;
    };

/** A commit of a repo on the hub. Files come from the cache, and into it when first asked for. */
export class HubRepo implements Repo {
  readonly id: string;
  readonly commit: string;
  readonly cacheFolder: string;
  readonly #hub: HubConnection;
  readonly #layout: CacheLayout;
  readonly #options: HubRepoOptions;
  readonly #refetched: Set<string>;
  readonly #totals: TransferTotals;
  readonly #limiter: Limiter;
  readonly #plans = new Map<string, Promise<Plan>>();
  readonly #paths = new Map<string, Promise<string | undefined>>();
  #refWritten: Promise<void> | undefined;
  #down = false;

  constructor(hub: HubConnection, layout: CacheLayout, options: HubRepoOptions) {
    this.#hub = hub;
    this.#layout = layout;
    this.#options = options;
    this.#refetched = options.refetched ?? new Set();
    this.id = hub.id;
    this.commit = options.commit;
    this.cacheFolder = layout.folder;
    this.#totals = new TransferTotals(options.onProgress);
    this.#limiter = new Limiter(hub.settings.filesAtOnce);
  }

  with(own: RepoOptions): HubRepo {
    const { signal = this.#hub.signal, onWarning = this.#hub.onWarning } = own;
    const onProgress = own.onProgress ?? this.#options.onProgress;
    const refetched = this.#refetched;
    return new HubRepo({ ...this.#hub, signal, onWarning }, this.#layout, {
      ...this.#options,
      onProgress,
      refetched,
    });
  }

  async file(name: string): Promise<string | undefined> {
    checkFileName(name);
    return this.#obtain(name, this.#hub.signal);
  }

  async look(name: string): Promise<RepoFile | undefined> {
    checkFileName(name);
    const plan = await this.#plan(name);
    if (plan.kind === 'fetch') return { size: plan.file.size };
    return plan.kind === 'here' ? { path: plan.path, size: (await stat(plan.path)).size } : undefined;
  }

  async require(name: string): Promise<string> {
    return (await this.requireAll([name]))[0] as string;
  }

  async requireAll(names: readonly string[]): Promise<string[]> {
    for (const name of names) checkFileName(name);
    // Sizes first, so that progress knows the whole, and nothing is fetched for a load that cannot succeed.
    const plans = await together(this.#hub.signal, names, (name) => this.#plan(name));
    const missing = names.filter((_, i) => plans[i]?.kind === 'absent');
    if (missing.length > 0) {
      const text = `${this.id} at commit ${this.commit} has no ${missing.join(', ')}`;
      const way = (await this.explain()) || `See ${this.#hub.endpoint}/${this.id}`;
      throw new HubError(`${text}. ${way}`);
    }
    await checkRoom(
      plans.flatMap((plan) => (plan.kind === 'fetch' ? [plan.file] : [])),
      this.#layout,
    );
    return (await together(this.#hub.signal, names, (name, signal) =>
      this.#obtain(name, signal),
    )) as string[];
  }

  async filesIn(folder: string): Promise<readonly string[]> {
    checkFileName(folder);
    return (await this.#names(`${folder}/`)).filter((name) => !name.includes('/'));
  }

  async explain(): Promise<string> {
    return explainContents(await this.#names(''), (name) => this.file(name));
  }

  /** Names of all files below a folder, from there on. */
  async #names(folder: string): Promise<string[]> {
    const { subfolder } = this.#options;
    // A commit that the caller gave was never asked for.
    const listed =
      this.#options.files ??
      (await resolveCommit({ ...this.#hub, revision: this.commit }).catch(() => undefined))?.files;
    const prefix = (subfolder === '' ? '' : `${subfolder}/`) + folder;
    return [...(listed ?? [])]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
  }

  #obtain(name: string, signal: AbortSignal | undefined): Promise<string | undefined> {
    return once(this.#paths, name, async () => this.#carryOut(await this.#plan(name), signal));
  }

  #plan(name: string): Promise<Plan> {
    return once(this.#plans, name, () => this.#limiter.run(() => this.#makePlan(name)));
  }

  async #makePlan(name: string): Promise<Plan> {
    abortIf(this.#hub.signal, 'the download');
    const { commit } = this;
    const layout = this.#layout;
    const path = posix.join(this.#options.subfolder, name);
    const cached = await layout.cached(commit, path);
    const force = this.#options.force && !this.#refetched.has(path);
    if (cached !== undefined && !force) {
      await isReadableFile(cached.path);
      await this.#writeRef();
      return { kind: 'here', path: cached.path };
    }
    const listed = this.#options.files?.has(path);
    if (listed === false || (!listed && !force && (await layout.knownMissing(commit, path)))) {
      return { kind: 'absent' };
    }
    const file = await this.#remoteFile(path);
    if (file === undefined) return { kind: 'absent' };
    checkSize(file, this.id);
    if (!force && (await hasBlob(layout, file, (message) => this.#warn(message)))) {
      const path = await layout.link(commit, file.path, file.etag, false);
      await this.#writeRef();
      return { kind: 'here', path };
    }
    return { kind: 'fetch', file, force, onBytes: this.#totals.add(path, file.size) };
  }

  async #remoteFile(path: string): Promise<RemoteFile | undefined> {
    if (this.#down) return undefined;
    try {
      const file = await remoteFile(this.#hub, this.commit, path);
      if (file === 'absent') await this.#layout.rememberMissing(this.commit, path);
      return typeof file === 'string' ? undefined : file;
    } catch (error) {
      // Pinned to a commit, the hub was never asked before: what an earlier load cached may be all that is needed.
      const passes = error instanceof UnreachableError || error instanceof RefusedError;
      if (
        !passes ||
        this.#hub.state.answered ||
        this.#options.force ||
        !(await this.#layout.hasSnapshot(this.commit))
      )
        throw error;
      this.#down = true;
      this.#warn(`${error.message}. The load goes on with the files in the cache`);
      return undefined;
    }
  }

  async #carryOut(plan: Plan, signal: AbortSignal | undefined): Promise<string | undefined> {
    if (plan.kind === 'absent') return undefined;
    if (plan.kind === 'here') return plan.path;
    const { file, force, onBytes } = plan;
    return this.#limiter.run(async () => {
      const hub = { ...this.#hub, signal };
      const path = await new Download(hub, this.#layout, this.commit, file, { force, onBytes }).run();
      this.#refetched.add(file.path);
      await this.#writeRef();
      return path;
    });
  }

  #warn(message: string): void {
    warn(message, this.#hub.onWarning);
  }

  /** After the first file, so that a ref never points to a snapshot that is not there. */
  #writeRef(): Promise<void> {
    this.#refWritten ??= this.#layout.writeRef(this.#hub.revision, this.commit);
    return this.#refWritten;
  }
}
