import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLS } from '../net/tls.ts';

/** A file of a fake repo. LFS and Xet files are named by sha256 and lie behind a redirect, git files by their object id. */
export interface FakeFile {
  bytes: Buffer;
  kind?: 'git' | 'lfs' | 'xet';
}

export interface FakeRepo {
  commit: string;
  files: Record<string, FakeFile>;
  /** Branches and tags besides `main`. */
  refs?: Record<string, string>;
  /** What the hub answers to everyone without the token. */
  needs?: { token: string; status: number; code?: string };
}

export type Place = 'api' | 'resolve' | 'storage';

/** One request as a fault may judge it. */
export interface Seen {
  place: Place;
  /** File in the repo, or the revision asked of the API. */
  path: string;
  /** Of a file: the revision in its address. */
  revision: string | undefined;
  range: string | undefined;
  authorization: string | undefined;
  /** Bytes of the body sent so far. */
  sent: number;
}

/** What goes wrong with one answer. */
export interface Fault {
  status?: number;
  headers?: Record<string, string>;
  /** The connection is destroyed after so many bytes of the body. */
  cutAfter?: number;
  /** Awaited before the answer. */
  wait?: Promise<unknown>;
  /** Sends these bytes instead of the right ones. */
  bytes?: Buffer;
  /** Answers 200 with everything, whatever range was asked. */
  ignoreRange?: boolean;
  /** Never sends more after so many bytes, and keeps the connection open. */
  stallAfter?: number;
  /** Says nothing of the length; the end of the body is the end of the chunks. */
  chunked?: boolean;
  /** Sends a byte at a time, one in so many ms. */
  tricklesMs?: number;
  /** Called before each piece of the body with the bytes sent so far. */
  onBytes?: (sent: number) => void;
}

const PIECE = 8 * 1024;

export function gitOid(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The blob name a file has in the cache. */
export function etagOf(file: FakeFile): string {
  return (file.kind ?? 'git') === 'git' ? gitOid(file.bytes) : sha256(file.bytes);
}

/** How a hub of the tests differs from the one that everybody knows. */
export interface FakeHubOptions {
  tls?: boolean;
  /** Name that it calls itself and its storage by, instead of 127.0.0.1. */
  host?: string;
  storageHost?: string;
  /** Below which all of its addresses lie, such as `/mirrors/hf`. */
  prefix?: string;
  /** What of the API it serves: everything, only calls without a query, or nothing but files. */
  api?: 'full' | 'plain' | { refuses: number };
}

/** A hub and, on another port, the storage it redirects to: real HTTP on loopback, with faults on demand. */
export class FakeHub {
  readonly repos = new Map<string, FakeRepo>();
  readonly log: Seen[] = [];
  /** Asked before each answer. */
  fault: (seen: Seen) => Fault | undefined = () => undefined;
  #hub: Server;
  #storage: Server;

  #options: FakeHubOptions;

  private constructor(options: FakeHubOptions) {
    this.#options = options;
    const [hub, storage] = [false, true].map((isStorage) => {
      const handle = (request: IncomingMessage, response: ServerResponse) =>
        void this.#handle(request, response, isStorage);
      return options.tls ? createTlsServer(TLS, handle) : createServer(handle);
    });
    this.#hub = hub as Server;
    this.#storage = storage as Server;
  }

  static async start(options: FakeHubOptions = {}): Promise<FakeHub> {
    const hub = new FakeHub(options);
    for (const server of [hub.#hub, hub.#storage]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    }
    return hub;
  }

  get url(): string {
    const { tls, host = '127.0.0.1', prefix = '' } = this.#options;
    return `${tls ? 'https' : 'http'}://${host}:${this.port}${prefix}`;
  }

  get port(): number {
    return (this.#hub.address() as AddressInfo).port;
  }

  get storageUrl(): string {
    const { tls, storageHost = '127.0.0.1' } = this.#options;
    return `${tls ? 'https' : 'http'}://${storageHost}:${(this.#storage.address() as AddressInfo).port}`;
  }

  reset(): void {
    this.log.length = 0;
    this.fault = () => undefined;
  }

  /** Requests for the bytes of files, without the probes for size and hash and the redirects to the storage. */
  transfers(): Seen[] {
    return this.log.filter(({ range, sent }) => sent > 0 && range !== 'bytes=0-0');
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse, storage: boolean): Promise<void> {
    response.on('error', () => {});
    const url = new URL(request.url ?? '/', 'http://fake');
    const { prefix = '' } = this.#options;
    const whole = decodeURIComponent(url.pathname);
    const path = !storage && whole.startsWith(prefix) ? whole.slice(prefix.length) : whole;
    if (!storage && !whole.startsWith(prefix)) return end(response, 404);
    const api = /^\/api\/models\/(.+)\/revision\/(.+)$/.exec(path);
    const resolve = /^\/((?:[^/]+\/)?[^/]+)\/(?:resolve|bytes)\/([^/]+)\/(.+)$/.exec(path);
    const match = api ?? resolve;
    const seen: Seen = {
      place: storage ? 'storage' : api ? 'api' : 'resolve',
      path: (api ? api[2] : resolve?.[3]) ?? path,
      revision: resolve?.[2],
      range: request.headers.range,
      authorization: request.headers.authorization,
      sent: 0,
    };
    this.log.push(seen);
    const fault = this.fault(seen) ?? {};
    await fault.wait;
    const repo = match ? this.repos.get(match[1] as string) : undefined;
    if (fault.status !== undefined) return end(response, fault.status, fault.headers);
    if (match === null || repo === undefined) return end(response, 404, { 'x-error-code': 'RepoNotFound' });
    if (!storage && repo.needs && seen.authorization !== `Bearer ${repo.needs.token}` && !api) {
      return end(response, repo.needs.status, repo.needs.code ? { 'x-error-code': repo.needs.code } : {});
    }
    const served = this.#options.api ?? 'full';
    if (api && typeof served === 'object')
      return end(response, served.refuses, { 'content-type': 'text/html' });
    if (api && served === 'plain' && url.search !== '') return end(response, 400);
    if (api) return this.#answerApi(response, repo, api[1] as string, seen.path);
    return this.#answerFile(request, response, repo, resolve as RegExpExecArray, seen, fault);
  }

  #answerApi(response: ServerResponse, repo: FakeRepo, id: string, revision: string): void {
    const sha = commitOf(repo, revision);
    if (sha === undefined) {
      end(response, 404, { 'x-error-code': 'RevisionNotFound' });
      return;
    }
    const siblings = Object.keys(repo.files).map((rfilename) => ({ rfilename }));
    const body = { _id: '1', id, sha, siblings, private: false, gated: false, likes: 0, downloads: 0 };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  async #answerFile(
    request: IncomingMessage,
    response: ServerResponse,
    repo: FakeRepo,
    [, id, revision, name]: RegExpExecArray,
    seen: Seen,
    fault: Fault,
  ): Promise<void> {
    const sha = commitOf(repo, revision as string);
    if (sha === undefined) return end(response, 404, { 'x-error-code': 'RevisionNotFound' });
    const file = repo.files[name as string];
    if (file === undefined)
      return end(response, 404, { 'x-error-code': 'EntryNotFound', 'x-repo-commit': sha });
    const headers: Record<string, string> = { ...fault.headers };
    if (seen.place === 'storage') headers.etag = '"the-storage-has-its-own"';
    else if ((file.kind ?? 'git') === 'git')
      Object.assign(headers, { etag: `"${etagOf(file)}"`, 'x-repo-commit': sha }, fault.headers);
    else {
      const linked = { 'x-repo-commit': sha, 'x-linked-size': String(file.bytes.length) };
      Object.assign(headers, linked, { 'x-linked-etag': `"${etagOf(file)}"` }, fault.headers);
      if (file.kind === 'xet' && request.headers.accept?.includes('application/vnd.xet-fileinfo+json')) {
        return this.#answerXet(response, headers, etagOf(file));
      }
      headers.location = `${this.storageUrl}/${id}/bytes/${sha}/${name}`;
      return end(response, 302, headers);
    }
    await sendBytes(request, response, file.bytes, headers, seen, fault);
  }

  #answerXet(response: ServerResponse, headers: Record<string, string>, hash: string): void {
    const links = [
      `<${this.url}/api/xet/token>; rel="xet-auth"`,
      `<${this.url}/api/xet/${hash}>; rel="xet-reconstruction-info"`,
    ];
    response.writeHead(200, {
      ...headers,
      'content-type': 'application/vnd.xet-fileinfo+json',
      'x-xet-hash': hash.split('').reverse().join(''),
      link: links.join(', '),
    });
    response.end('{}');
  }
}

function commitOf(repo: FakeRepo, revision: string): string | undefined {
  if (revision === 'main' || revision === repo.commit) return repo.commit;
  return repo.refs?.[revision];
}

function end(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, headers).end(status >= 400 ? `status ${status}` : undefined);
}

async function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  right: Buffer,
  headers: Record<string, string>,
  seen: Seen,
  fault: Fault,
): Promise<void> {
  const bytes = fault.bytes ?? right;
  const range = fault.ignoreRange ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  if (range && start >= bytes.length)
    return end(response, 416, { ...headers, 'content-range': `bytes */${bytes.length}` });
  const stop = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
  response.writeHead(range ? 206 : 200, {
    ...(!fault.chunked && { 'content-length': String(stop - start) }),
    'accept-ranges': 'bytes',
    ...(range && { 'content-range': `bytes ${start}-${stop - 1}/${bytes.length}` }),
    ...headers,
  });
  const limit = Math.min(
    stop - start,
    fault.cutAfter ?? Number.POSITIVE_INFINITY,
    fault.stallAfter ?? Number.POSITIVE_INFINITY,
  );
  while (seen.sent < limit && !response.destroyed) {
    fault.onBytes?.(seen.sent);
    const piece = bytes.subarray(
      start + seen.sent,
      start + Math.min(seen.sent + (fault.tricklesMs ? 1 : PIECE), limit),
    );
    if (fault.tricklesMs) await sleep(fault.tricklesMs);
    seen.sent += piece.length;
    // One piece at a time reaches the kernel, so that a cut takes effect where it should.
    await new Promise<void>((resolve) => response.write(piece, () => resolve()));
  }
  fault.onBytes?.(seen.sent);
  if (fault.cutAfter !== undefined && limit < stop - start) response.destroy();
  else if (fault.stallAfter === undefined) response.end();
}
