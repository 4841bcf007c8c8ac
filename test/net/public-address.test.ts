import { describe, expect, it } from 'vitest';
import { ConnectionError } from '../../src/net/connection-error.ts';
import { isLoopback, isPublic, lookupWithin } from '../../src/net/public-address.ts';

describe('an address', () => {
  it.each(['1.1.1.1', '8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00:1450::1'])(
    '%s is of the internet',
    (address) => expect(isPublic(address)).toBe(true),
  );

  it.each([
    ...['127.0.0.1', '127.8.9.1', '0.0.0.0', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    ...['169.254.169.254', '100.64.0.1', '198.18.0.1', '192.0.2.1', '203.0.113.9', '224.0.0.1'],
    ...['240.0.0.1', '255.255.255.255', '::', '::1', 'fe80::1', 'fd00::1', 'fc00::1', 'ff02::1'],
    ...['::ffff:127.0.0.1', '::ffff:10.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1', '2001:db8::1'],
  ])('%s is not', (address) => expect(isPublic(address)).toBe(false));
});

describe('a host', () => {
  it.each([
    ...['localhost', 'LOCALHOST', '127.0.0.1', '127.0.0.2'],
    ...['::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'],
  ])('%s is this machine alone', (host) => expect(isLoopback(host)).toBe(true));

  it.each([
    '0.0.0.0',
    '::',
    '192.168.1.1',
    '128.0.0.1',
    'fe80::1',
    '::2',
    'localhost.example',
    '127.example',
  ])('%s is not', (host) => expect(isLoopback(host)).toBe(false));
});

describe('a lookup within bounds', () => {
  const look = (host: string, all: boolean, allows: (address: string) => boolean) =>
    new Promise((resolve, reject) => {
      lookupWithin(allows)(host, { all, family: 4 }, (error, found) =>
        error ? reject(error) : resolve(found),
      );
    });

  it('refuses a name whose address is not allowed, and gives one that is', async () => {
    await expect(look('localhost', true, isPublic)).rejects.toThrow(
      'localhost is 127.0.0.1, which is no address that may be asked',
    );
    await expect(look('localhost', false, isPublic)).rejects.toThrow(ConnectionError);
    expect(await look('localhost', true, () => true)).toEqual([{ address: '127.0.0.1', family: 4 }]);
    expect(await look('localhost', false, () => true)).toBe('127.0.0.1');
  });
});
