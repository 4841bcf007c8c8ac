import { createHash } from 'node:crypto';
import { HubError, SwitchyardError, show } from '../../errors.ts';
import { discard } from '../../net/get.ts';
import type { HubConnection } from '../transfer/connection.ts';
import { hashKind } from '../transfer/content-hash.ts';
import { describeBody, isPageInstead } from '../transfer/fitting-body.ts';
import { notFound, RefusedError, refusal } from '../transfer/refusal.ts';
import { encodePath, fileUrl, type RemoteFile } from '../transfer/remote-file.ts';
import { type Answer, ask, isRefused, readBody, request, watched } from '../transfer/request.ts';
import { TransientError, withRetries } from '../transfer/retry.ts';
import { isCommit } from './names.ts';

const MAX_METADATA_BYTES = 32 * 2 ** 20;

/** What a revision stands for. */
export interface Commit {
  readonly commit: string;
  /** Every file of the commit, or undefined if the hub did not list them. */
  readonly files: ReadonlySet<string> | undefined;
}

/** An answer to an API call that a mirror of files alone would give. */
class NoApiError extends Error {}

/**
 * Asks the hub which commit a branch or tag is now, and what files it has. A mirror may know only a part of the API, or
 * serve files alone: then a file tells the commit, in `X-Repo-Commit`.
 */
export async function resolveCommit(hub: HubConnection): Promise<Commit> {
  return withRetries(`asking for ${hub.id}`, hub, async () => {
    let reason = '';
    for (const way of [askExpanded, askPlainly]) {
      try {
        return await way(hub);
      } catch (error) {
        if (!(error instanceof NoApiError)) throw error;
        reason ||= error.message;
      }
    }
    return { commit: await askForFile(hub, reason), files: undefined };
  });
}

/** Loaded by those who ask the Hub: a model in a folder, or in the cache, needs none of it. */
const hubApi = () => import('@huggingface/hub');

/** The call that asks for the commit and the file names only, which a large repo needs. */
async function askExpanded(hub: HubConnection): Promise<Commit> {
  const { modelInfo } = await hubApi();
  const info = await modelInfo({
    name: hub.id,
    revision: hub.revision,
    hubUrl: hub.endpoint,
    additionalFields: ['sha', 'filePaths'],
    fetch: (url) => fetchJson(hub, String(url)),
  }).catch((error) => {
    if (error instanceof NoApiError) throw error;
    throw unusable(hub, error);
  });
  return commitOf(hub, info.sha, info.filePaths);
}

async function askPlainly(hub: HubConnection): Promise<Commit> {
  const url = `${hub.endpoint}/api/models/${hub.id}/revision/${encodeURIComponent(hub.revision)}`;
  const info = (await (await fetchJson(hub, url)).json()) as {
    sha?: unknown;
    siblings?: { rfilename?: unknown }[];
  } | null;
  const names = Array.isArray(info?.siblings) ? info.siblings.map((entry) => entry?.rfilename) : [];
  return commitOf(hub, info?.sha, names);
}

function commitOf(hub: HubConnection, sha: unknown, names: unknown): Commit {
  if (typeof sha !== 'string' || !isCommit(sha)) {
    throw new NoApiError(`${hub.endpoint} names no commit for ${hub.id}: ${show(sha)}`);
  }
  const listed = Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string');
  return { commit: sha, files: listed ? new Set(names as string[]) : undefined };
}

/** @param reason what was wrong with the API, which is the fault if files do not tell the commit either */
async function askForFile(hub: HubConnection, reason: string): Promise<string> {
  const url = fileUrl(hub, hub.revision, 'config.json');
  const headers = { range: 'bytes=0-0', 'accept-encoding': 'identity' };
  const { response, commit } = await watched(hub, 'metadata', async (watchdog) => {
    const answer = await ask(hub, url, { headers, stopAtLinked: true }, watchdog);
    discard(answer.response);
    return answer;
  });
  if (commit !== undefined && isCommit(commit)) {
    hub.state.answered = true;
    return commit;
  }
  const found = response.status < 400;
  const refused = found ? undefined : refusal(hub, response);
  if (refused) throw refused;
  if (response.status === 404) throw new RefusedError(notFound(hub, 404));
  throw new HubError(
    `${reason}, and its files do not tell their commit either (X-Repo-Commit is ${show(commit)}). ` +
      'Check HF_ENDPOINT; from a mirror without that, load a commit, by its hash as the revision',
  );
}

/**
 * Asks the hub for size and hash of one file.
 *
 * @returns `absent` where the commit has no such file, `unserved` where an answer does not say so for certain, as of a mirror that
 *   is not complete
 */
export async function remoteFile(
  hub: HubConnection,
  commit: string,
  path: string,
): Promise<RemoteFile | 'absent' | 'unserved'> {
  const { fileDownloadInfo } = await hubApi();
  let certain = false;
  const info = await withRetries(`asking for ${path} of ${hub.id}`, hub, () =>
    fileDownloadInfo({
      repo: hub.id,
      path: encodePath(path),
      revision: commit,
      hubUrl: hub.endpoint,
      fetch: async (url, init) => {
        const response = await fetchFileHeaders(
          hub,
          path,
          String(url),
          init?.headers as Record<string, string>,
        );
        certain = response.headers.has('x-repo-commit');
        return response;
      },
    }).catch((error) => {
      throw unusable(hub, error);
    }),
  );
  if (info === null) return certain ? 'absent' : 'unserved';
  const etag = info.etag.replace(/^W\//, '').replace(/^"|"$/g, '');
  // It becomes a file name.
  if (!/^\w[\w.-]*$/.test(etag)) {
    throw new HubError(
      `${hub.endpoint} gives ${path} of ${hub.id} the ETag ${show(info.etag)}, which names no blob`,
    );
  }
  if (!Number.isSafeInteger(info.size) || info.size < 0) {
    throw new HubError(`${hub.endpoint} gives ${path} of ${hub.id} the size ${info.size}`);
  }
  return { path, etag: blobName(etag, path, info.size), size: info.size };
}

/**
 * Hashes in lower case, as they are compared. A mirror's own ETag may be that of another file, too: path and size tell them apart, so that
 * none is shown in the other's place.
 */
function blobName(etag: string, path: string, size: number): string {
  if (hashKind(etag.toLowerCase())) return etag.toLowerCase();
  return `etag-${createHash('sha256')
    .update(JSON.stringify([etag, path, size]))
    .digest('hex')}`;
}

/** Our own errors pass; what the library makes of an answer it cannot use becomes one of ours. */
function unusable(hub: HubConnection, error: unknown): unknown {
  if (error instanceof SwitchyardError || error instanceof TransientError) return error;
  return new HubError(
    `${hub.endpoint} gave an answer about ${hub.id} that cannot be used: ${(error as Error).message}; check HF_ENDPOINT`,
    { cause: error },
  );
}

/**
 * The `fetch` given to the library for an API call. Refusals become our errors before the library sees them.
 *
 * @throws NoApiError where a hub would have answered otherwise
 */
async function fetchJson(hub: HubConnection, url: string): Promise<Response> {
  return watched(hub, 'metadata', async (watchdog) => {
    const answer = await request(hub, url, { headers: { accept: 'application/json' } }, watchdog).catch(
      (error) => {
        throw error instanceof RefusedError && error.unknownAddress ? new NoApiError(error.message) : error;
      },
    );
    if (answer === undefined) throw new NoApiError(`${hub.endpoint} knows nothing of ${hub.id} (404)`);
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of readBody(answer.response, hub, watchdog)) {
      bytes += piece.length;
      if (bytes > MAX_METADATA_BYTES) break;
      pieces.push(piece);
    }
    const body = Buffer.concat(pieces);
    if (bytes > MAX_METADATA_BYTES || !isJson(body)) {
      throw new NoApiError(
        `${hub.endpoint} answered about ${hub.id} with something else than JSON (${describeBody(answer.response, body)})`,
      );
    }
    return new Response(body, { headers: { 'content-type': 'application/json' } });
  });
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
  path: string,
  url: string,
  headers: Record<string, string>,
): Promise<Response> {
  return watched(hub, 'metadata', async (watchdog) => {
    const init = { headers: { ...headers, 'accept-encoding': 'identity' }, stopAtLinked: true };
    const answer = await ask(hub, url, init, watchdog);
    const { response, commit } = answer;
    discard(response);
    if (isRefused(response)) {
      const refused = refusal(hub, response);
      if (refused) throw refused;
      // The library knows a missing file by this.
      const certain = response.headers.get('x-error-code') === 'EntryNotFound' || commit !== undefined;
      const headers = { 'x-error-code': 'EntryNotFound', ...(certain && { 'x-repo-commit': commit ?? '' }) };
      return new Response(null, { status: 404, headers });
    }
    hub.state.answered = true;
    const normal = normalize(answer);
    const strayPage = isPageInstead(normal, path);
    if (strayPage && !normal.has('etag') && !normal.has('x-linked-etag')) {
      throw new HubError(
        `${hub.endpoint} answered with an HTML page instead of ${path} of ${hub.id}. Look at ${url}: a sign-in page of the ` +
          'network or a proxy answers in its place, or HF_ENDPOINT is no hub',
      );
    }
    // The address says commit and path, which is what names a file where the server does not.
    if (!normal.has('etag')) normal.set('etag', `no-etag-${createHash('sha1').update(url).digest('hex')}`);
    return new Response(null, { status: 206, headers: normal });
  });
}

function normalize({ response, linkedEtag, linkedSize }: Answer): Headers {
  const headers = new Headers(response.headers);
  const length = response.status === 200 ? response.headers.get('content-length') : null;
  const size = linkedSize ?? /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] ?? length;
  if (linkedEtag !== undefined) headers.set('x-linked-etag', linkedEtag);
  if (size !== null) headers.set('content-range', `bytes 0-0/${size}`);
  return headers;
}
