import { type FileHandle, open } from 'node:fs/promises';
import { abortIf } from '../../errors.ts';
import { ContentHash } from './content-hash.ts';
import type { RemoteFile } from './remote-file.ts';

/**
 * The bytes of a file that have arrived, on disk, and the hash of exactly those bytes. The partial file is named by the
 * content's hash, so whatever an earlier attempt left in it belongs to the same content; should it not, the hash says so.
 */
export class PartialFile {
  readonly path: string;
  bytes = 0;
  readonly #file: RemoteFile;
  readonly #handle: FileHandle;
  #hash: ContentHash | undefined;

  private constructor(path: string, file: RemoteFile, handle: FileHandle) {
    this.path = path;
    this.#file = file;
    this.#handle = handle;
  }

  /** Opens it, hashing what is already there; more than the file's size cannot be part of it. */
  static async open(path: string, file: RemoteFile, signal: AbortSignal | undefined): Promise<PartialFile> {
    const partial = new PartialFile(path, file, await open(path, 'a+'));
    try {
      await partial.#takeUp(signal);
      return partial;
    } catch (error) {
      await partial.close();
      throw error;
    }
  }

  async #takeUp(signal: AbortSignal | undefined): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size > this.#file.size) await this.#handle.truncate(0);
    this.#startHash();
    if (size > this.#file.size) return;
    await this.#hash?.updateFromFile(this.path, size, signal).catch((error) => {
      abortIf(signal, 'the download');
      throw error;
    });
    this.bytes = size;
  }

  #startHash(): void {
    this.#hash = ContentHash.of(this.#file.etag, this.#file.size);
  }

  async append(piece: Uint8Array): Promise<void> {
    let written = 0;
    while (written < piece.length) {
      written += (await this.#handle.write(piece, written, piece.length - written)).bytesWritten;
    }
    this.#hash?.update(piece);
    this.bytes += piece.length;
  }

  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.bytes = 0;
    this.#startHash();
  }

  /** Of a complete file, the hash that it should not have; undefined where all is well, or cannot be told. Ends the hashing. */
  mismatch(): string | undefined {
    return this.#hash?.mismatch();
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
