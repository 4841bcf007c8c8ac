import http from 'node:http';
import https from 'node:https';
import type { SecureContext } from 'node:tls';
import { HttpProxyAgent } from 'http-proxy-agent';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { SocksProxyAgent } from 'socks-proxy-agent';
import type { ProxyServer } from './proxy.ts';

/**
 * The agent that opens connections to an address.
 *
 * Of a proxy each request has its own, so that its signal also ends a connection on which the proxy never answers.
 *
 * @param trusted root certificates for a proxy that speaks TLS itself, undefined: Node's own
 */
export function agentFor(
  target: URL,
  proxy: ProxyServer | undefined,
  trusted: SecureContext | undefined,
  signal: AbortSignal,
): http.Agent {
  const secure = target.protocol === 'https:';
  if (proxy) return proxyAgent(proxy.url, secure, trusted, signal);
  return secure ? https.globalAgent : http.globalAgent;
}

function proxyAgent(
  url: URL,
  secure: boolean,
  trusted: SecureContext | undefined,
  signal: AbortSignal,
): http.Agent {
  if (url.protocol.startsWith('socks')) return new SocksProxyAgent(url, { keepAlive: false });
  const options = { keepAlive: false, signal, ...(trusted && { secureContext: trusted }) };
  return secure ? new HttpsProxyAgent(url.href, options) : new HttpProxyAgent(url.href, options);
}
