import { rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HubError, warn } from '../../errors.ts';
import { makeFolder, replaceFile } from '../../files.ts';
import { discard } from '../../net/get.ts';
import { formatBytes } from '../../units.ts';
import { waitForForeignLock } from '../cache/foreign-lock.ts';
import type { CacheLayout } from '../cache/layout.ts';
import { withLock } from '../cache/lock.ts';
import type { HubConnection } from './connection.ts';
import { hashKind } from './content-hash.ts';
import { checkSpace, diskError } from './disk-errors.ts';
import { continues, findStrayBody } from './fitting-body.ts';
import { PartialFile } from './partial-file.ts';
import { fileUrl, type RemoteFile } from './remote-file.ts';
import { readBody, request, watched } from './request.ts';
import { TransientError, withRetries } from './retry.ts';

/** A continued file may carry damage of its earlier part; a whole one that is wrong twice will stay wrong. */
const WHOLE_FETCHES = 2;
/** Bytes that may come for a file, as a multiple of its size: what starts anew again and again does not end otherwise. */
const MOST_FETCHED = 3;
const FETCHED_SLACK = 2 ** 20;

export interface DownloadOptions {
  /** Fetch even what is there. */
  readonly force: boolean;
  /** Called with the bytes on disk so far. */
  readonly onBytes: (bytes: number) => void;
}

/** The bytes that arrived are not the ones the hub announced. */
class DamageError extends HubError {}

/**
 * Puts a file's blob into the cache: under a lock, through a partial file that later attempts continue, checked by size and
 * hash before it gets its final name. Another process that fetches the same blob is waited for.
 */
export class Download {
  readonly #hub: HubConnection;
  readonly #layout: CacheLayout;
  readonly #commit: string;
  readonly #file: RemoteFile;
  readonly #options: DownloadOptions;
  /** For messages: "model.safetensors of acme/tiny-moe". */
  readonly #name: string;
  /** The most bytes that any attempt came to: only beyond them is progress. */
  #furthest = 0;
  /** Bytes that came over the network. */
  #fetched = 0;
  /** Transfers that began with the file's first byte. */
  #wholes = 0;

  constructor(
    hub: HubConnection,
    layout: CacheLayout,
    commit: string,
    file: RemoteFile,
    options: DownloadOptions,
  ) {
    this.#hub = hub;
    this.#layout = layout;
    this.#commit = commit;
    this.#file = file;
    this.#options = options;
    this.#name = `${file.path} of ${hub.id}`;
  }

  /**
   * @returns where to read the file
   * @throws HubError; AbortError
   */
  async run(): Promise<string> {
    const { etag, size, path } = this.#file;
    const folder = dirname(this.#layout.blob(etag));
    try {
      await makeFolder(folder);
      return await withLock(
        join(this.#layout.locks, `${etag}.switchyard`),
        this.#hub.signal,
        (locked) => this.#obtain(locked),
        (owner) => this.#tellWait(owner),
      );
    } catch (error) {
      throw await diskError(error, path, folder, size - this.#furthest);
    }
  }

  /** Under the lock, since a blob may move to its final place on disks without links. */
  async #obtain(locked: boolean): Promise<string> {
    const { etag, size, path } = this.#file;
    await waitForForeignLock(this.#layout.foreignLock(etag), this.#hub.signal, (owner) =>
      this.#tellWait(owner),
    );
    const blob = !this.#options.force && (await hasBlob(this.#layout, this.#file));
    const shown = this.#options.force ? undefined : await this.#layout.cached(this.#commit, path);
    if (blob || shown?.size === size) this.#options.onBytes(size);
    if (shown?.size === size) return shown.path;
    if (!blob) await (locked ? this.#fetch(this.#layout.incomplete(etag)) : this.#fetchUnlocked());
    return this.#layout.link(this.#commit, path, etag, !blob);
  }

  /** Through a partial file that nobody else knows, and so nobody continues. */
  async #fetchUnlocked(): Promise<void> {
    const path = this.#layout.incompleteOfOwn(this.#file.etag);
    try {
      await this.#fetch(path);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  #tellWait(owner: number): void {
    // Two loads in one process wait for each other in silence.
    if (owner !== process.pid)
      warn(`waiting for process ${owner}, which is fetching ${this.#name}`, this.#hub.onWarning);
  }

  async #fetch(path: string): Promise<void> {
    if (this.#options.force) await rm(path, { force: true });
    await checkSpace(path, this.#file.size);
    for (;;) {
      try {
        await this.#receive(path);
        break;
      } catch (error) {
        if (!(error instanceof DamageError)) throw error;
        await rm(path, { force: true });
        // Of an empty file nothing is asked for, so that nothing else comes of asking again.
        if (this.#wholes >= WHOLE_FETCHES || this.#file.size === 0)
          throw new HubError(`${error.message}. Nothing of it was kept`, { cause: error });
        this.#furthest = 0;
      }
    }
    await replaceFile(path, this.#layout.blob(this.#file.etag));
  }

  /** Fills the partial file, and compares it with what was announced. */
  async #receive(path: string): Promise<void> {
    const partial = await PartialFile.open(path, this.#file, this.#hub.signal);
    try {
      this.#furthest = Math.max(this.#furthest, partial.bytes);
      this.#options.onBytes(partial.bytes);
      await withRetries(`download of ${this.#name}`, this.#hub, async (gained) => {
        if (partial.bytes === this.#file.size) return;
        try {
          await this.#transfer(partial);
        } catch (error) {
          // A trickle is no progress.
          const trickles = error instanceof TransientError && error.transience.retries !== undefined;
          if (partial.bytes > this.#furthest && !trickles) gained();
          throw error;
        } finally {
          this.#furthest = Math.max(this.#furthest, partial.bytes);
        }
      });
      await partial.sync();
    } finally {
      await partial.close();
    }
    this.#check(partial.mismatch());
  }

  #check(actual: string | undefined): void {
    const { etag } = this.#file;
    if (actual === undefined) return;
    throw new DamageError(
      `${this.#name} arrived damaged: its ${hashKind(etag)} is ${actual}, but ${this.#hub.endpoint} announced ${etag}`,
    );
  }

  /** One request, from where we are to the end of the file or of the connection. */
  #transfer(partial: PartialFile): Promise<void> {
    const hub = this.#hub;
    return watched(hub, 'download', async (watchdog) => {
      const headers: Record<string, string> = { 'accept-encoding': 'identity' };
      if (partial.bytes > 0) headers.range = `bytes=${partial.bytes}-`;
      const answer = await request(hub, fileUrl(hub, this.#commit, this.#file.path), { headers }, watchdog);
      if (answer === undefined) throw new HubError(`${this.#name} has vanished from ${hub.endpoint} (404)`);
      const { response } = answer;
      const pieces = readBody(response, hub, watchdog);
      const stray = await findStrayBody(response, pieces, hub, this.#file);
      if (stray !== undefined) {
        discard(response);
        throw new HubError(stray);
      }
      if (!continues(response, partial.bytes)) {
        await partial.restart();
        this.#options.onBytes(0);
        if (response.status !== 200) {
          discard(response);
          throw new TransientError(`${hub.endpoint} sent another part of the file than asked`);
        }
      }
      if (partial.bytes === 0) this.#wholes++;
      await this.#store(pieces, partial);
    });
  }

  async #store(pieces: AsyncIterable<Buffer>, partial: PartialFile): Promise<void> {
    const { size } = this.#file;
    for await (const piece of pieces) {
      this.#count(piece.length);
      if (partial.bytes + piece.length > size) {
        throw new DamageError(
          `${this.#name} is longer than the ${size} bytes that ${this.#hub.endpoint} announced`,
        );
      }
      await partial.append(piece);
      this.#options.onBytes(partial.bytes);
    }
    if (partial.bytes < size)
      throw new TransientError(`the connection ended after ${partial.bytes} of ${size} bytes`);
  }

  #count(bytes: number): void {
    const { size } = this.#file;
    this.#fetched += bytes;
    if (this.#fetched <= MOST_FETCHED * size + FETCHED_SLACK) return;
    throw new HubError(
      `${this.#name}: ${formatBytes(this.#fetched)} came for the ${size} bytes that ${this.#hub.endpoint} announced, and the ` +
        'file is still not whole: its server starts anew after each break (it does not honour Range). Try another mirror (HF_ENDPOINT)',
    );
  }
}

/** Whether the blob is here with the announced size; one of another size cannot be what its name says. */
export async function hasBlob(
  layout: CacheLayout,
  file: RemoteFile,
  complain: (message: string) => void = () => {},
): Promise<boolean> {
  const found = await stat(layout.blob(file.etag)).catch(() => undefined);
  if (found === undefined) return false;
  if (found.isFile() && found.size === file.size) return true;
  complain(`${layout.blob(file.etag)} has ${found.size} bytes instead of ${file.size}; it is fetched again`);
  return false;
}
