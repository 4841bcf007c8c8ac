import { HubError } from '../../errors.ts';
import type { HubConnection } from './connection.ts';
import { discard, get, type HttpAnswer } from './http.ts';
import { refusal } from './refusal.ts';
import { parseRetryAfter, TransientError, throwIfAborted } from './retry.ts';

const MAX_REDIRECTS = 10;
const TRANSIENT_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

/** An answer of the hub or of the storage it redirected to; `2xx`, or 416 for a range behind the end. */
export interface Answer {
  readonly response: HttpAnswer;
  /** `X-Linked-Etag` and `X-Linked-Size` of the hub itself: the storage behind a redirect has another ETag. */
  readonly linkedEtag: string | undefined;
  readonly linkedSize: string | undefined;
}

export interface RequestOptions {
  readonly headers: Readonly<Record<string, string>>;
  /** A redirect that already carries `X-Linked-*` is the answer; do not go to the storage. */
  readonly stopAtLinked?: boolean;
}

/** Ends a request that has been silent for too long, or whose caller has gone. */
export class Watchdog {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.#controller.abort();

  constructor(
    timeoutMs: number,
    private readonly caller: AbortSignal | undefined,
  ) {
    this.#timer = setTimeout(this.#onAbort, timeoutMs);
    caller?.addEventListener('abort', this.#onAbort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something arrived: the silence starts anew. */
  refresh(): void {
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.caller?.removeEventListener('abort', this.#onAbort);
  }
}

/**
 * One GET, following redirects by hand: the token goes to the hub only, never to another host.
 *
 * @returns undefined where the repo has no such file
 * @throws TransientError for what may pass; HubError with the remedy for what will not
 */
export async function request(
  hub: HubConnection,
  url: string,
  init: RequestOptions,
  watchdog: Watchdog,
): Promise<Answer | undefined> {
  try {
    const answer = await follow(hub, url, init, watchdog);
    const { status, headers } = answer.response;
    if ((status >= 200 && status < 300) || status === 416 || isRedirect(status)) return answer;
    discard(answer.response);
    if (TRANSIENT_STATUS.has(status)) {
      throw new TransientError(
        `${hub.endpoint} answered ${status}`,
        parseRetryAfter(headers.get('retry-after')),
      );
    }
    const refused = refusal(hub, status, headers);
    if (refused === undefined) return undefined;
    throw refused;
  } catch (error) {
    throw transient(error, hub, watchdog);
  }
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
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const response = await get(target, { ...init.headers, ...authorization(hub, target) }, watchdog.signal);
    watchdog.refresh();
    linkedEtag ??= response.headers.get('x-linked-etag') ?? undefined;
    linkedSize ??= response.headers.get('x-linked-size') ?? undefined;
    const answered = init.stopAtLinked && linkedEtag !== undefined && linkedSize !== undefined;
    if (!isRedirect(response.status) || answered) return { response, linkedEtag, linkedSize };
    discard(response);
    target = redirectTarget(target, response.headers.get('location'));
  }
  throw new HubError(`${url} was redirected more than ${MAX_REDIRECTS} times; check HF_ENDPOINT`);
}

function authorization(hub: HubConnection, target: URL): Record<string, string> {
  const own = hub.token !== undefined && target.origin === new URL(hub.endpoint).origin;
  return own ? { authorization: `Bearer ${hub.token}` } : {};
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

/** The body of an answer; a silent or broken connection becomes a `TransientError`. */
export async function* readBody(
  { body }: HttpAnswer,
  hub: HubConnection,
  watchdog: Watchdog,
): AsyncGenerator<Buffer, void, void> {
  try {
    for await (const piece of body) {
      watchdog.refresh();
      yield piece as Buffer;
    }
  } catch (error) {
    throw transient(error, hub, watchdog);
  }
}

/** What the HTTP client throws for a broken connection is transient; our own errors stay as they are. */
function transient(error: unknown, hub: HubConnection, watchdog: Watchdog): unknown {
  if (error instanceof HubError || error instanceof TransientError) return error;
  throwIfAborted(hub.signal);
  if (watchdog.signal.aborted) {
    return new TransientError(`${hub.endpoint} went silent`, undefined, { cause: error });
  }
  return new TransientError(`the connection to ${hub.endpoint} broke (${reasonOf(error)})`, undefined, {
    cause: error,
  });
}

function reasonOf(error: unknown): string {
  let innermost = error as Error & { code?: string };
  while (innermost.cause instanceof Error) innermost = innermost.cause;
  return innermost.code ?? innermost.message;
}
