import http from 'node:http';
import https from 'node:https';
import type { SecureContext } from 'node:tls';
import type { ProxyServer } from './proxy.ts';

/**
 * The agent that opens connections to an address.
 *
 * Of a proxy each request has its own, so that its signal also ends a connection on which the proxy never answers.
 *
 * @param trusted root certificates for a proxy that speaks TLS itself, undefined: Node's own
 */
export async function agentFor(
  target: URL,
  proxy: ProxyServer | undefined,
  trusted: SecureContext | undefined,
  signal: AbortSignal,
): Promise<http.Agent> {
  const secure = target.protocol === 'https:';
  if (proxy) return proxyAgent(proxy.url, secure, trusted, signal);
  return secure ? https.globalAgent : http.globalAgent;
}

/** Only who has a proxy waits for the code that speaks with it. */
async function proxyAgent(
  url: URL,
  secure: boolean,
  trusted: SecureContext | undefined,
  signal: AbortSignal,
): Promise<http.Agent> {
  if (url.protocol.startsWith('socks')) {
    const { SocksProxyAgent } = await import('socks-proxy-agent');
    return new SocksProxyAgent(url, { keepAlive: false });
  }
  const options = { keepAlive: false, signal, ...(trusted && { secureContext: trusted }) };
  if (secure) {
    const { HttpsProxyAgent } = await import('https-proxy-agent');
    return new HttpsProxyAgent(url.href, options);
  }
  const { HttpProxyAgent } = await import('http-proxy-agent');
  return new HttpProxyAgent(url.href, options);
}
