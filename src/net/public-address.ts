/** Addresses of the internet, as against those of a machine, its network, or nobody. */
import { lookup } from 'node:dns';
import { BlockList, isIP, isIPv4, type LookupFunction } from 'node:net';
import { ConnectionError } from './connection-error.ts';

/** IANA's registry of special-purpose IPv4 addresses, and those of groups. */
const SPECIAL_V4 = [
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24',
  '192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4',
].flatMap((line) => line.split(' '));
/** What of IPv6 is given out to the internet, and in it: Teredo, documentation, and 6to4, which stands for IPv4 addresses. */
const GLOBAL_V6 = '2000::/3';
const SPECIAL_V6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

function listOf(nets: readonly string[], family: 'ipv4' | 'ipv6'): BlockList {
  const list = new BlockList();
  for (const net of nets) {
    const [address, bits] = net.split('/') as [string, string];
    list.addSubnet(address, Number(bits), family);
  }
  return list;
}

const special = { v4: listOf(SPECIAL_V4, 'ipv4'), v6: listOf(SPECIAL_V6, 'ipv6') };
const global = listOf([GLOBAL_V6], 'ipv6');

/** Whether an IP address is one of the internet. */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !special.v4.check(address, 'ipv4');
  return global.check(address, 'ipv6') && !special.v6.check(address, 'ipv6');
}

const loopback = listOf(['127.0.0.0/8'], 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether an IP address, in any spelling, or name is one under which only this machine reaches itself. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  if (version === 0) return host.toLowerCase() === 'localhost';
  return loopback.check(host, version === 4 ? 'ipv4' : 'ipv6');
}

/** The error for an address to which no connection is made. */
export function forbidden(host: string, address: string): ConnectionError {
  const what = host === address ? host : `${host} is ${address}, which`;
  return new ConnectionError(`${what} is no address that may be asked`, 'setting');
}

/** Resolves names to addresses that are all allowed: a name that changes its mind between a check and a connection gains nothing. */
export function lookupWithin(allows: (address: string) => boolean): LookupFunction {
  return (host, options, done) => {
    lookup(host, { ...options, all: true }, (error, found) => {
      const hidden = error ? undefined : found.find(({ address }) => !allows(address));
      const failure = error ?? (hidden && forbidden(host, hidden.address));
      if (failure) return done(failure, []);
      if (options.all) return done(null, found);
      const [first] = found;
      done(null, first?.address ?? '', first?.family);
    });
  };
}
