import type { Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HubError } from '../../errors.ts';
import { fileUrl, type RemoteFile } from '../repo/metadata.ts';
import type { HubConnection } from './connection.ts';
import { hashFile, hashKind, startHash } from './content-hash.ts';
import { diskError } from './disk-errors.ts';
import { discard, type HttpAnswer } from './http.ts';
import { type Answer, readBody, request, Watchdog } from './request.ts';
import { TransientError, throwIfAborted, withRetries } from './retry.ts';

/** Bytes on disk of a file being fetched, and the hash of exactly those bytes. */
interface Received {
  bytes: number;
  hash: Hash | undefined;
}

/** The bytes that arrived are not the ones the hub announced. */
export class ContentError extends HubError {}

/**
 * Fetches a file into `partial`, continuing what an earlier attempt left there, until it has the announced size and
 * hash. The partial file is named by the content's hash, so whatever lies in it belongs to the same content; should it
 * not, the hash says so.
 *
 * @param onBytes called with the bytes on disk so far
 * @throws ContentError when size or hash are wrong (the partial file is then useless); HubError for everything else
 */
export async function receive(
  hub: HubConnection,
  commit: string,
  file: RemoteFile,
  partial: string,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const handle = await open(partial, 'a+');
  const received: Received = { bytes: 0, hash: undefined };
  try {
    await takeUp(handle, partial, file, received, hub.signal);
    onBytes(received.bytes);
    await withRetries(`download of ${file.path} of ${hub.id}`, hub.settings, hub.signal, async (reset) => {
      const before = received.bytes;
      if (before === file.size) return;
      try {
        await transfer(hub, commit, file, handle, received, onBytes);
      } finally {
        if (received.bytes > before) reset();
      }
    });
    await handle.datasync();
  } catch (error) {
    throw await diskError(error, file.path, dirname(partial), file.size - received.bytes);
  } finally {
    await handle.close();
  }
  check(hub, file, received.hash);
}

/** Hashes what is already there; more than the file's size cannot be part of it. */
async function takeUp(
  handle: FileHandle,
  partial: string,
  file: RemoteFile,
  received: Received,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { size } = await handle.stat();
  if (size > file.size) await handle.truncate(0);
  await restart(received, file);
  if (size > file.size) return;
  if (received.hash) {
    await hashFile(received.hash, partial, size, signal).catch((error) => {
      throwIfAborted(signal);
      throw error;
    });
  }
  received.bytes = size;
}

function restart(received: Received, file: RemoteFile): void {
  const kind = hashKind(file.etag);
  received.bytes = 0;
  received.hash = kind && startHash(kind, file.size);
}

/** One request, from where we are to the end of the file or of the connection. */
async function transfer(
  hub: HubConnection,
  commit: string,
  file: RemoteFile,
  handle: FileHandle,
  received: Received,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const watchdog = new Watchdog(hub.settings.downloadTimeoutMs, hub.signal);
  try {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (received.bytes > 0) headers.range = `bytes=${received.bytes}-`;
    const answer = await request(hub, fileUrl(hub, commit, file.path), { headers }, watchdog);
    if (answer === undefined)
      throw new HubError(`${file.path} of ${hub.id} has vanished from ${hub.endpoint} (404)`);
    if (!continues(answer, file, received)) {
      await handle.truncate(0);
      restart(received, file);
      onBytes(0);
      if (answer.response.status !== 200) {
        discard(answer.response);
        throw new TransientError(`${hub.endpoint} sent another part of the file than asked`);
      }
    }
    await store(answer.response, hub, file, handle, received, watchdog, onBytes);
  } finally {
    watchdog.stop();
  }
}

/** Whether the answer goes on exactly where we are, in a file of the announced size. */
function continues({ response }: Answer, file: RemoteFile, received: Received): boolean {
  if (response.status === 200) return received.bytes === 0;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  if (response.status !== 206 || range === null) return false;
  return Number(range[1]) === received.bytes && (range[2] === '*' || Number(range[2]) === file.size);
}

async function store(
  response: HttpAnswer,
  hub: HubConnection,
  file: RemoteFile,
  handle: FileHandle,
  received: Received,
  watchdog: Watchdog,
  onBytes: (bytes: number) => void,
): Promise<void> {
  for await (const piece of readBody(response, hub, watchdog)) {
    if (received.bytes + piece.length > file.size) {
      throw new ContentError(
        `${file.path} of ${hub.id} is longer than the ${file.size} bytes that ${hub.endpoint} announced`,
      );
    }
    await writeAll(handle, piece);
    received.hash?.update(piece);
    received.bytes += piece.length;
    onBytes(received.bytes);
  }
  if (received.bytes < file.size) {
    throw new TransientError(`the connection ended after ${received.bytes} of ${file.size} bytes`);
  }
}

async function writeAll(handle: FileHandle, piece: Uint8Array): Promise<void> {
  let written = 0;
  while (written < piece.length) {
    written += (await handle.write(piece, written, piece.length - written)).bytesWritten;
  }
}

function check(hub: HubConnection, file: RemoteFile, hash: Hash | undefined): void {
  const actual = hash?.digest('hex');
  if (actual === undefined || actual === file.etag) return;
  throw new ContentError(
    `${file.path} of ${hub.id} arrived damaged: its ${hashKind(file.etag)} is ${actual}, ` +
      `but ${hub.endpoint} announced ${file.etag}`,
  );
}
