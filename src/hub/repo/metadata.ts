import { fileDownloadInfo, modelInfo } from '@huggingface/hub';
import { HubError, SwitchyardError, show } from '../../errors.ts';
import type { HubConnection } from '../transfer/connection.ts';
import { discard } from '../transfer/http.ts';
import { refusal } from '../transfer/refusal.ts';
import { type Answer, readBody, request, Watchdog } from '../transfer/request.ts';
import { TransientError, withRetries } from '../transfer/retry.ts';
import { isCommit } from './names.ts';

const MAX_METADATA_BYTES = 32 * 2 ** 20;

/** What a revision stands for. */
export interface Commit {
  readonly commit: string;
  /** Every file of the commit, or undefined if the hub did not list them. */
  readonly files: ReadonlySet<string> | undefined;
}

/** What must be known of a file before it is fetched. */
export interface RemoteFile {
  /** Path inside the repo. */
  readonly path: string;
  /** Name of the blob: sha256 for LFS and Xet files, the git object id for others. */
  readonly etag: string;
  readonly size: number;
}

/** Asks the hub which commit a branch or tag is now, and what files it has. */
export async function resolveCommit(hub: HubConnection): Promise<Commit> {
  const info = await withRetries(`asking for ${hub.id}`, hub.settings, hub.signal, () =>
    modelInfo({
      name: hub.id,
      revision: hub.revision,
      hubUrl: hub.endpoint,
      additionalFields: ['sha', 'filePaths'],
      fetch: (url) => fetchJson(hub, String(url)),
    }).catch((error) => {
      throw unusable(hub, error);
    }),
  );
  if (typeof info.sha !== 'string' || !isCommit(info.sha)) {
    throw new HubError(`${hub.endpoint} names no commit for ${hub.id}: ${show(info.sha)}; check HF_ENDPOINT`);
  }
  const files: unknown = info.filePaths;
  const listed = Array.isArray(files) && files.length > 0;
  return { commit: info.sha, files: listed ? new Set(files as string[]) : undefined };
}

/** Asks the hub for size and hash of one file; undefined where the commit has no such file. */
export async function remoteFile(
  hub: HubConnection,
  commit: string,
  path: string,
): Promise<RemoteFile | undefined> {
  const info = await withRetries(`asking for ${path} of ${hub.id}`, hub.settings, hub.signal, () =>
    fileDownloadInfo({
      repo: hub.id,
      path: encodePath(path),
      revision: commit,
      hubUrl: hub.endpoint,
      fetch: (url, init) => fetchFileHeaders(hub, String(url), init?.headers as Record<string, string>),
    }).catch((error) => {
      throw unusable(hub, error);
    }),
  );
  if (info === null) return undefined;
  const etag = info.etag.replace(/^W\//, '').replace(/^"|"$/g, '');
  // It becomes a file name.
  if (!/^\w[\w.-]{0,254}$/.test(etag)) {
    throw new HubError(
      `${hub.endpoint} gives ${path} of ${hub.id} the ETag ${show(info.etag)}, which names no blob`,
    );
  }
  if (!Number.isSafeInteger(info.size) || info.size < 0) {
    throw new HubError(`${hub.endpoint} gives ${path} of ${hub.id} the size ${info.size}`);
  }
  return { path, etag, size: info.size };
}

/** Our own errors pass; what the library makes of an answer it cannot use becomes one of ours. */
function unusable(hub: HubConnection, error: unknown): unknown {
  if (error instanceof SwitchyardError || error instanceof TransientError) return error;
  return new HubError(
    `${hub.endpoint} gave an answer about ${hub.id} that cannot be used: ${(error as Error).message}; check HF_ENDPOINT`,
    { cause: error },
  );
}

/** Address of a file's bytes at a commit. */
export function fileUrl(hub: HubConnection, commit: string, path: string): string {
  return `${hub.endpoint}/${hub.id}/resolve/${commit}/${encodePath(path)}`;
}

function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}

/** The `fetch` given to the library for an API call. Refusals become our errors before the library sees them. */
async function fetchJson(hub: HubConnection, url: string): Promise<Response> {
  const watchdog = new Watchdog(hub.settings.metadataTimeoutMs, hub.signal);
  try {
    const answer = await request(hub, url, { headers: { accept: 'application/json' } }, watchdog);
    if (answer === undefined) throw refusal(hub, 404, new Headers({ 'x-error-code': 'RepoNotFound' }));
    const body = await readBounded(hub, answer, watchdog);
    return new Response(body, { headers: { 'content-type': 'application/json' } });
  } finally {
    watchdog.stop();
  }
}

async function readBounded(hub: HubConnection, answer: Answer, watchdog: Watchdog): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of readBody(answer.response, hub, watchdog)) {
    bytes += piece.length;
    if (bytes > MAX_METADATA_BYTES) break;
    pieces.push(piece);
  }
  const body = Buffer.concat(pieces);
  if (bytes > MAX_METADATA_BYTES || !isJson(body)) {
    throw new HubError(
      `${hub.endpoint} answered about ${hub.id} with something else than JSON; check HF_ENDPOINT`,
    );
  }
  return body;
}

function isJson(body: Buffer): boolean {
  try {
    return typeof JSON.parse(body.toString('utf8')) === 'object';
  } catch {
    return false;
  }
}

/**
 * The `fetch` given to the library for a file's size and hash. The library reads them from the last answer, but the
 * hub's own redirect has the ones that count; it also expects a `Content-Range`, which an empty file has in its 416 and
 * a server without ranges not at all.
 */
async function fetchFileHeaders(
  hub: HubConnection,
  url: string,
  headers: Record<string, string>,
): Promise<Response> {
  const watchdog = new Watchdog(hub.settings.metadataTimeoutMs, hub.signal);
  try {
    const init = { headers: { ...headers, 'accept-encoding': 'identity' }, stopAtLinked: true };
    const answer = await request(hub, url, init, watchdog);
    if (answer === undefined)
      return new Response(null, { status: 404, headers: { 'x-error-code': 'EntryNotFound' } });
    discard(answer.response);
    return new Response(null, { status: 206, headers: normalize(answer) });
  } finally {
    watchdog.stop();
  }
}

function normalize({ response, linkedEtag, linkedSize }: Answer): Headers {
  const headers = new Headers(response.headers);
  const length = response.status === 200 ? response.headers.get('content-length') : null;
  const size = linkedSize ?? /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] ?? length;
  if (linkedEtag !== undefined) headers.set('x-linked-etag', linkedEtag);
  if (size !== null) headers.set('content-range', `bytes 0-0/${size}`);
  return headers;
}
