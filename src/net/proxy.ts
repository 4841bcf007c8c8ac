import { BlockList, isIP } from 'node:net';

/** A proxy that the environment names. */
export interface ProxyServer {
  readonly url: URL;
  /** The variable that names it, for messages. */
  readonly variable: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment names a proxy that nothing can be sent through. The message never shows user name or password. */
export class ProxySettingError extends Error {
  override name = 'ProxySettingError';
}

const PROTOCOLS = ['http:', 'https:', 'socks:', 'socks4:', 'socks4a:', 'socks5:', 'socks5h:'];
const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/**
 * The proxy for an address, as curl and Python choose it: `http_proxy` or `https_proxy` by the address's own scheme, else
 * `all_proxy`, each also in upper case, unless `no_proxy` names the host. Empty variables count as unset.
 *
 * @throws ProxySettingError for a value that is no address of a proxy
 */
export function proxyFor(target: URL, env: Environment = process.env): ProxyServer | undefined {
  const own = target.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const variable = [own, own.toUpperCase(), 'all_proxy', 'ALL_PROXY'].find((name) => env[name]?.trim());
  if (variable === undefined || isExempt(target, env)) return undefined;
  return { url: parseProxy(env[variable] as string, variable), variable };
}

/** The proxy that an address would have if `no_proxy` did not name its host. @throws ProxySettingError */
export function unusedProxy(target: URL, env: Environment = process.env): ProxyServer | undefined {
  return isExempt(target, env) ? proxyFor(target, { ...env, no_proxy: '', NO_PROXY: '' }) : undefined;
}

/** Scheme, host and port, without the credentials. */
export function proxyName({ url, variable }: ProxyServer): string {
  return `the proxy ${url.protocol}//${url.host} (${variable})`;
}

/** For messages about an address: nothing, or ` through the proxy …`. */
export function viaProxy(target: URL): string {
  const proxy = proxyFor(target);
  return proxy ? ` through ${proxyName(proxy)}` : '';
}

function parseProxy(text: string, variable: string): URL {
  const trimmed = text.trim();
  const address = /^[a-z][a-z\d+.-]*:\/\//i.test(trimmed) ? trimmed : `http://${trimmed}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const plain = url && url.search === '' && url.hash === '' && ['', '/'].includes(url.pathname);
  if (url === undefined || url.hostname === '' || !plain || !isDecodable(url.username + url.password)) {
    throw new ProxySettingError(
      `${variable} is not the address of a proxy; expected http://host:port or http://user:password@host:port, ` +
        'with the special characters of user and password percent-encoded',
    );
  }
  if (!PROTOCOLS.includes(url.protocol)) {
    throw new ProxySettingError(
      `${variable} names a proxy of the kind ${url.protocol}//; expected ${PROTOCOLS.map((name) => `${name}//`).join(', ')}`,
    );
  }
  return url;
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether `no_proxy` names the host: `*`, `example.org` (with everything below it), `.example.org`, `*.example.org`, an IP
 * address, a range of them as `10.0.0.0/8`; each but the last may end in `:port`.
 */
function isExempt(target: URL, env: Environment): boolean {
  const list = env.no_proxy?.trim() || env.NO_PROXY?.trim() || '';
  const host = bare(target.hostname);
  const port = target.port || DEFAULT_PORTS[target.protocol] || '';
  return list.split(/[\s,]+/).some((entry) => entry !== '' && names(entry.toLowerCase(), host, port));
}

function names(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return isInRange(entry, host);
  const [, name = entry, entryPort] = isIP(entry) ? [] : (/^(.*?)(?::(\d+))?$/.exec(entry) ?? []);
  if (entryPort !== undefined && entryPort !== port) return false;
  const wanted = bare(name).replace(/^\*?\./, '');
  if (wanted === '') return false;
  if (isIP(wanted)) return isInRange(`${wanted}/${isIP(wanted) === 4 ? 32 : 128}`, host);
  return host === wanted || (isIP(host) === 0 && host.endsWith(`.${wanted}`));
}

function isInRange(range: string, host: string): boolean {
  const [base = '', bits = ''] = range.split('/');
  const address = bare(base);
  const version = isIP(address);
  if (version === 0 || isIP(host) === 0 || !/^\d+$/.test(bits) || Number(bits) > (version === 4 ? 32 : 128))
    return false;
  const block = new BlockList();
  block.addSubnet(address, Number(bits), version === 4 ? 'ipv4' : 'ipv6');
  return block.check(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
}

/** A host without the brackets of IPv6 and the dot of a fully qualified name. */
function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}
