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

/** A hash ready for the bytes; git hashes a header with the size before them ("Git Internals", "Git Objects"). */
export function startHash(kind: HashKind, size: number): Hash {
  return kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Feeds the first `bytes` of a file to a hash. */
export async function hashFile(hash: Hash, path: string, bytes: number, signal?: AbortSignal): Promise<void> {
  if (bytes === 0) return;
  const stream = createReadStream(path, {
    end: bytes - 1,
    highWaterMark: 2 ** 20,
    ...(signal && { signal }),
  });
  for await (const piece of stream) hash.update(piece as Buffer);
}
