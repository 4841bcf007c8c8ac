import type { ProxyServer } from './proxy.ts';
import { proxyName } from './proxy.ts';

/**
 * What stands in the way of an answer:
 * - `setting`: a setting of this machine or of the server that stays wrong however often one asks
 * - `unreachable`: nobody is there (name, address or port); a network that is down looks the same
 * - `broken`: somebody is there, and the connection broke
 */
export type Obstacle = 'setting' | 'unreachable' | 'broken';

/** No answer came. The message says why and, for a setting, what to do. */
export class ConnectionError extends Error {
  override name = 'ConnectionError';
  readonly obstacle: Obstacle;

  constructor(message: string, obstacle: Obstacle, options?: ErrorOptions) {
    super(message, options);
    this.obstacle = obstacle;
  }
}

const UNREACHABLE =
  /^(ENOTFOUND|EAI_\w+|ECONNREFUSED|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL)$/;
const UNTRUSTED =
  /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERT_UNTRUSTED|CERT_SIGNATURE_FAILURE)$/;
const BAD_CERTIFICATE =
  /^(CERT_HAS_EXPIRED|CERT_NOT_YET_VALID|CERT_REVOKED|ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH|CERT_REJECTED|INVALID_CA)$/;
const NO_TLS = /^(EPROTO|ERR_SSL_\w+)$/;

/**
 * What the HTTP client throws, in words.
 *
 * @param proxy the one in between, while it has not yet passed the connection on
 */
export function connectionError(
  error: unknown,
  target: URL,
  proxy: ProxyServer | undefined,
): ConnectionError {
  if (error instanceof ConnectionError) return error;
  const options = { cause: error };
  const reason = reasonOf(error);
  const who = proxy ? proxyName(proxy) : target.host;
  if (UNTRUSTED.test(reason)) {
    return new ConnectionError(
      `the certificate of ${who} is not trusted (${reason}). In a network that opens TLS connections, point SSL_CERT_FILE or ` +
        'NODE_EXTRA_CA_CERTS at the root certificate of that network (a PEM file)',
      'setting',
      options,
    );
  }
  if (BAD_CERTIFICATE.test(reason)) {
    const why = reason === 'ERR_TLS_CERT_ALTNAME_INVALID' ? 'is of another host' : 'is not valid';
    return new ConnectionError(
      `the certificate of ${who} ${why} (${reason}). Check the address and the clock of this machine; for a root ` +
        'certificate of your own, SSL_CERT_FILE or NODE_EXTRA_CA_CERTS',
      'setting',
      options,
    );
  }
  if (NO_TLS.test(reason)) {
    const where = proxy ? proxy.variable : 'the address';
    return new ConnectionError(
      `${who} does not speak TLS as asked (${reason}). Check whether ${where} should begin with http:// instead of https://`,
      'setting',
      options,
    );
  }
  if (proxy) {
    return new ConnectionError(
      `${who} cannot be used: ${reason}. Correct ${proxy.variable}, or name the hosts it is not for in NO_PROXY`,
      'unreachable',
      options,
    );
  }
  if (reason === 'ENOTFOUND' || reason.startsWith('EAI_')) {
    return new ConnectionError(
      `the name ${target.hostname} cannot be resolved (${reason})`,
      'unreachable',
      options,
    );
  }
  if (UNREACHABLE.test(reason)) {
    return new ConnectionError(`${target.host} cannot be reached (${reason})`, 'unreachable', options);
  }
  return new ConnectionError(`the connection to ${target.host} broke (${reason})`, 'broken', options);
}

/** What a proxy said instead of passing a connection on. */
export function proxyRefusal(status: number, target: URL, proxy: ProxyServer): ConnectionError {
  const who = proxyName(proxy);
  if (status === 407) {
    const given = proxy.url.username !== '';
    return new ConnectionError(
      given
        ? `${who} does not accept the user name and password in ${proxy.variable} (407). Correct them; special characters must be percent-encoded`
        : `${who} asks for a user name and password (407). Give them in ${proxy.variable} as http://user:password@host:port`,
      'setting',
    );
  }
  if (status >= 500)
    return new ConnectionError(`${who} cannot reach ${target.host} (it answered ${status})`, 'unreachable');
  return new ConnectionError(
    `${who} does not let connections to ${target.host} through (it answered ${status}). Ask for it to be allowed, or name ` +
      'the host in NO_PROXY if it can be reached directly',
    'setting',
  );
}

/** The code of an error of Node, else its message; where several addresses were tried, that of the first. */
function reasonOf(error: unknown): string {
  let innermost = error as Error & { code?: string; errors?: readonly Error[] };
  while (innermost.cause instanceof Error) innermost = innermost.cause;
  if (innermost.code === undefined && innermost.errors?.[0]) return reasonOf(innermost.errors[0]);
  return String(innermost.code ?? innermost.message);
}
