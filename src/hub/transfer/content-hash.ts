import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** How a blob's name attests its bytes; undefined where the name is no hash we know (some mirrors). */
export type HashKind = 'sha256' | 'git-sha1';

/** LFS and Xet blobs are named by the sha256 of their bytes, all others by their git object id (SHA-1). */
export function hashKind(etag: string): HashKind | undefined {
  if (/^[0-9a-f]{64}$/.test(etag)) return 'sha256';
  if (/^[0-9a-f]{40}$/.test(etag)) return 'git-sha1';
  return undefined;
}

/** Compares bytes, as they come, with the hash that their blob is named by. */
export class ContentHash {
  readonly kind: HashKind;
  readonly #etag: string;
  readonly #hash: Hash;
  /** Repository managers that stand before the hub name a file by the SHA-1 of its bytes alone. */
  readonly #plain: Hash | undefined;

  /** @param size bytes of the whole: git hashes a header with it first ("Git Internals", "Git Objects") */
  private constructor(etag: string, kind: HashKind, size: number) {
    this.kind = kind;
    this.#etag = etag;
    this.#hash = kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
    this.#plain = kind === 'git-sha1' ? createHash('sha1') : undefined;
  }

  /** Undefined for a name that is no hash. */
  static of(etag: string, size: number): ContentHash | undefined {
    const kind = hashKind(etag);
    return kind && new ContentHash(etag, kind, size);
  }

  update(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.#plain?.update(piece);
  }

  /** Takes in the first `bytes` of a file. */
  async updateFromFile(path: string, bytes: number, signal?: AbortSignal): Promise<void> {
    if (bytes === 0) return;
    const stream = createReadStream(path, {
      end: bytes - 1,
      highWaterMark: 2 ** 20,
      ...(signal && { signal }),
    });
    for await (const piece of stream) this.update(piece as Buffer);
  }

  /** Ends the hashing: the hash that the bytes have where it is another one than the name's, undefined where all is well. */
  mismatch(): string | undefined {
    const actual = this.#hash.digest('hex');
    return actual === this.#etag || this.#plain?.digest('hex') === this.#etag ? undefined : actual;
  }
}
