import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';

/**
 * One GET without following redirects. Node's own client instead of `fetch`: undici (6.24, Node 20) now and then never
 * reports that the other side closed the connection in the middle of a body.
 */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Throws while being read when the connection breaks. */
  readonly body: IncomingMessage;
}

/** A body up to this size is read to its end, so that the connection can serve again; a larger one is cut off. */
const WORTH_READING_BYTES = 64 * 1024;
/** Signed addresses and security policies make headers long. */
const MAX_HEADER_BYTES = 128 * 1024;

export function get(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const { request } = url.protocol === 'https:' ? https : http;
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers, signal, maxHeaderSize: MAX_HEADER_BYTES }, (body) => {
      // A break while nobody reads is met again by whoever does.
      body.on('error', () => {});
      resolve({ status: body.statusCode ?? 0, headers: headersOf(body), body });
    });
    sent.on('error', reject);
    sent.end();
  });
}

function headersOf(message: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value);
  }
  return headers;
}

/** Gets rid of a body nobody reads. */
export function discard({ headers, body }: HttpAnswer): void {
  const length = headers.get('content-length');
  if (length !== null && Number(length) <= WORTH_READING_BYTES) body.resume();
  else body.destroy();
}
