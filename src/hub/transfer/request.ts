import { abortIf, HubError } from '../../errors.ts';
import { ConnectionError } from '../../net/connection-error.ts';
import { discard, get, type HttpAnswer } from '../../net/get.ts';
import { proxyName, unusedProxy, viaProxy } from '../../net/proxy.ts';
import { Watchdog } from '../../net/watchdog.ts';
import type { HubConnection } from './connection.ts';
import { refusal } from './refusal.ts';
import { parseRetryAfter, TransientError, UnreachableError } from './retry.ts';

const MAX_REDIRECTS = 10;
const TRANSIENT_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

/** An answer of the hub or of the storage it redirected to. */
export interface Answer {
  readonly response: HttpAnswer;
  /** `X-Linked-Etag` and `X-Linked-Size` of the hub itself: the storage behind a redirect has another ETag. */
  readonly linkedEtag: string | undefined;
  readonly linkedSize: string | undefined;
  /** `X-Repo-Commit` of the hub itself. */
  readonly commit: string | undefined;
}

export interface RequestOptions {
  readonly headers: Readonly<Record<string, string>>;
  /** A redirect that already carries `X-Linked-*` is the answer; do not go to the storage. */
  readonly stopAtLinked?: boolean;
}

/** Runs a request under a watchdog: one for metadata, or one for the bytes of a file. */
export async function watched<T>(
  { settings, signal }: HubConnection,
  kind: 'metadata' | 'download',
  work: (watchdog: Watchdog) => Promise<T>,
): Promise<T> {
  const silenceMs = kind === 'metadata' ? settings.metadataTimeoutMs : settings.downloadTimeoutMs;
  const watchdog = new Watchdog({ ...settings, silenceMs }, signal);
  try {
    return await work(watchdog);
  } finally {
    watchdog.stop();
  }
}

/**
 * One GET, following redirects by hand: the token goes to the hub only, never to another host.
 *
 * @returns undefined where the repo has no such file; else `2xx`, or 416 for a range behind the end
 * @throws TransientError for what may pass; HubError with the remedy for what will not
 */
export async function request(
  hub: HubConnection,
  url: string,
  init: RequestOptions,
  watchdog: Watchdog,
): Promise<Answer | undefined> {
  const answer = await ask(hub, url, init, watchdog);
  if (!isRefused(answer.response)) {
    hub.state.answered = true;
    return answer;
  }
  discard(answer.response);
  const refused = refusal(hub, answer.response);
  if (refused === undefined) return undefined;
  throw refused;
}

/** Whether an answer is none to what was asked; 416 is one, for a range behind the end. */
export function isRefused({ status }: HttpAnswer): boolean {
  return !((status >= 200 && status < 300) || status === 416 || isRedirect(status));
}

/** As `request`, with whatever answer comes, unless it is one that may pass. */
export async function ask(
  hub: HubConnection,
  url: string,
  init: RequestOptions,
  watchdog: Watchdog,
): Promise<Answer> {
  try {
    const answer = await follow(hub, url, init, watchdog);
    const { status, headers, url: last } = answer.response;
    if (!TRANSIENT_STATUS.has(status)) return answer;
    discard(answer.response);
    throw new TransientError(`${siteOf(hub, last)} answered ${status}${viaProxy(last)}`, {
      retryAfterMs: parseRetryAfter(headers.get('retry-after')),
    });
  } catch (error) {
    throw transient(error, hub, watchdog);
  }
}

/** The hub as the user named it, or the host that it sent us to. */
export function siteOf(hub: HubConnection, url: URL): string {
  return url.host === new URL(hub.endpoint).host ? hub.endpoint : url.host;
}

async function follow(
  hub: HubConnection,
  url: string,
  init: RequestOptions,
  watchdog: Watchdog,
): Promise<Answer> {
  let target = new URL(url);
  let linkedEtag: string | undefined;
  let linkedSize: string | undefined;
  let commit: string | undefined;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await get(target, { ...init.headers, ...authorization(hub, target) }, watchdog.signal);
    watchdog.received(0);
    linkedEtag ??= response.headers.get('x-linked-etag') ?? undefined;
    linkedSize ??= response.headers.get('x-linked-size') ?? undefined;
    commit ??= response.headers.get('x-repo-commit') ?? undefined;
    const answered = init.stopAtLinked && linkedEtag !== undefined && linkedSize !== undefined;
    if (!isRedirect(response.status) || answered) return { response, linkedEtag, linkedSize, commit };
    discard(response);
    target = redirectTarget(target, response.headers.get('location'));
  }
  throw new HubError(`${url} was redirected more than ${MAX_REDIRECTS} times; check HF_ENDPOINT`);
}

function authorization(hub: HubConnection, target: URL): Record<string, string> {
  if (target.origin !== new URL(hub.endpoint).origin) return {};
  if (hub.token !== undefined) return { authorization: `Bearer ${hub.token}` };
  if (hub.credentials === undefined) return {};
  return { authorization: `Basic ${Buffer.from(hub.credentials).toString('base64')}` };
}

function redirectTarget(from: URL, location: string | null): URL {
  const target =
    location === null || !URL.canParse(location, from.href) ? undefined : new URL(location, from);
  const secure = target?.protocol === 'https:' || (target?.protocol === 'http:' && from.protocol === 'http:');
  if (target === undefined || !secure) {
    throw new HubError(
      `${from.origin} redirects to ${location ?? 'nowhere'}, which is not followed; check HF_ENDPOINT`,
    );
  }
  return target;
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

/** The body of an answer; a silent, slow or broken connection becomes a `TransientError`. */
export async function* readBody(
  { body }: HttpAnswer,
  hub: HubConnection,
  watchdog: Watchdog,
): AsyncGenerator<Buffer, void, void> {
  try {
    for await (const piece of body) {
      watchdog.received((piece as Buffer).length);
      yield piece as Buffer;
    }
  } catch (error) {
    throw transient(error, hub, watchdog);
  }
}

const OFFLINE_ADVICE = 'What is in the cache loads without a network, with HF_HUB_OFFLINE=1';

function networkAdvice(endpoint: string): string {
  const unused = unusedProxy(new URL(endpoint));
  return (
    `Is the network up, and is ${endpoint} the right address (HF_ENDPOINT)? ` +
    (unused
      ? `NO_PROXY names that host, so ${proxyName(unused)} was not asked. `
      : 'In a network that wants a proxy, set HTTPS_PROXY. ')
  );
}

/** What the HTTP client throws for a broken connection is transient; our own errors stay as they are. */
function transient(error: unknown, hub: HubConnection, watchdog: Watchdog): unknown {
  if (error instanceof HubError || error instanceof TransientError) return error;
  abortIf(hub.signal, 'the download');
  if (watchdog.ending === 'silent')
    return new TransientError(`${hub.endpoint} went silent${viaProxy(new URL(hub.endpoint))}`, {
      cause: error,
    });
  if (watchdog.ending === 'slow') {
    return new TransientError(
      `${hub.endpoint} sends less than ${hub.settings.minBytesPerSecond} bytes a second`,
      // Another connection may be better, and a third one hardly.
      {
        cause: error,
        retries: 1,
        remedy: 'SWITCHYARD_MIN_DOWNLOAD_SPEED sets how slow it may be (0: as slow as it likes)',
      },
    );
  }
  if (!(error instanceof ConnectionError)) {
    const { code, message } = error as NodeJS.ErrnoException;
    return new TransientError(`the connection to ${hub.endpoint} broke (${code ?? message})`, {
      cause: error,
    });
  }
  if (error.obstacle === 'setting') return new UnreachableError(error.message, { cause: error });
  if (hub.state.answered) return new TransientError(error.message, { cause: error });
  if (error.obstacle === 'broken') {
    // A server that wants TLS ends a connection without it just so.
    const plain = hub.endpoint.startsWith('http:');
    const remedy = plain
      ? 'Try again later, or check whether HF_ENDPOINT should begin with https://'
      : undefined;
    return new TransientError(error.message, { cause: error, remedy, ...(plain && { retries: 2 }) });
  }
  return new TransientError(error.message, {
    cause: error,
    // Nobody has answered yet, so this is no blip in a working network.
    retries: 1,
    remedy: `${viaProxy(new URL(hub.endpoint)) === '' ? networkAdvice(hub.endpoint) : ''}${OFFLINE_ADVICE}`,
  });
}
