import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import type { SecureContext } from 'node:tls';
import { agentFor } from './agent.ts';
import { CertificateSettingError, trustedContext } from './certificates.ts';
import { ConnectionError, connectionError, proxyRefusal } from './connection-error.ts';
import { type ProxyServer, ProxySettingError, proxyFor } from './proxy.ts';
import { forbidden, lookupWithin } from './public-address.ts';

/**
 * The answer to one GET. Node's own client instead of `fetch`: undici (6.24, Node 20) now and then never reports that the
 * other side closed the connection in the middle of a body.
 */
export interface HttpAnswer {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  /** Throws while being read when the connection breaks. */
  readonly body: IncomingMessage;
}

/** A body up to this size is read to its end, so that the connection can serve again; a larger one is cut off. */
const WORTH_READING_BYTES = 64 * 1024;
/** Signed addresses and security policies make headers long. */
const MAX_HEADER_BYTES = 128 * 1024;

/**
 * One GET that follows no redirect, through the proxy and with the root certificates that the environment names.
 *
 * @param allows which addresses may be asked; the host itself is asked then, by no proxy. Default: any
 * @throws ConnectionError where no answer comes, also after the signal has fired
 */
export async function get(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
  allows?: (address: string) => boolean,
): Promise<HttpAnswer> {
  const route = await planRoute(url, signal, allows);
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === 'https:' ? https : http;
    const { agent, trusted, lookup } = route;
    const tls = trusted && { secureContext: trusted };
    const options = {
      headers,
      signal,
      agent,
      ...tls,
      ...(lookup && { lookup }),
      maxHeaderSize: MAX_HEADER_BYTES,
    };
    // Until the proxy has passed the connection on, what goes wrong is between it and us.
    let { proxy } = route;
    const sent = request(url, options, (body) => {
      // A break while nobody reads is met again by whoever does.
      body.on('error', () => {});
      const status = body.statusCode ?? 0;
      if (route.proxy && status === 407) {
        body.destroy();
        reject(proxyRefusal(407, url, route.proxy));
      } else resolve({ url, status, headers: headersOf(body), body });
    });
    sent.on('proxyConnect', ({ statusCode = 200 }: { statusCode?: number }) => {
      if (statusCode === 200) proxy = undefined;
      else sent.destroy(proxyRefusal(statusCode, url, route.proxy as ProxyServer));
    });
    // As SOCKS says it.
    sent.on('proxy', () => {
      proxy = undefined;
    });
    sent.on('error', (error) => reject(connectionError(error, url, proxy)));
    sent.end();
  });
}

/** How a request gets to its host. */
interface Route {
  readonly proxy: ProxyServer | undefined;
  readonly trusted: SecureContext | undefined;
  readonly agent: http.Agent;
  readonly lookup?: LookupFunction;
}

/** A connection of its own: one that is kept open for others may lead anywhere. @throws ConnectionError */
function directRoute({ hostname, protocol }: URL, allows: (address: string) => boolean): Route {
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0 && !allows(address)) throw forbidden(address, address);
  const isSecure = protocol === 'https:';
  return {
    proxy: undefined,
    trusted: isSecure ? trustedContext() : undefined,
    agent: isSecure ? new https.Agent({ keepAlive: false }) : new http.Agent({ keepAlive: false }),
    lookup: lookupWithin(allows),
  };
}

async function planRoute(
  url: URL,
  signal: AbortSignal,
  allows: ((address: string) => boolean) | undefined,
): Promise<Route> {
  try {
    if (allows) return directRoute(url, allows);
    const proxy = proxyFor(url);
    const secure = url.protocol === 'https:' || proxy?.url.protocol === 'https:';
    const trusted = secure ? trustedContext() : undefined;
    return { proxy, trusted, agent: await agentFor(url, proxy, trusted, signal) };
  } catch (error) {
    if (!(error instanceof ProxySettingError || error instanceof CertificateSettingError)) throw error;
    throw new ConnectionError(error.message, 'setting', { cause: error });
  }
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
