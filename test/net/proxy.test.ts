import { expect, test } from 'vitest';
import { ProxySettingError, proxyFor, proxyName } from '../../src/net/proxy.ts';

const HTTP = new URL('http://hub.example.org/file');
const HTTPS = new URL('https://hub.example.org/file');
const PROXY = 'http://proxy.corp:3128';

test('the variable of the scheme counts, in either case of letters, and all_proxy after it', () => {
  const all = {
    https_proxy: 'http://a:1',
    HTTPS_PROXY: 'http://b:2',
    all_proxy: 'http://c:3',
    ALL_PROXY: 'http://d:4',
  };
  const asked: string[] = [];
  for (const name of [...Object.keys(all), '']) {
    asked.push(proxyFor(HTTPS, all)?.variable ?? 'none');
    if (name !== '') delete (all as Record<string, string>)[name];
  }
  expect(asked).toEqual(['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY', 'none']);
  expect(proxyFor(HTTP, { https_proxy: PROXY, HTTPS_PROXY: PROXY })).toBeUndefined();
  expect(proxyFor(HTTPS, { http_proxy: PROXY, HTTP_PROXY: PROXY })).toBeUndefined();
  expect(proxyFor(HTTP, { http_proxy: '', HTTP_PROXY: PROXY })?.variable).toBe('HTTP_PROXY');
});

test('an address without a scheme is one of http', () => {
  const { url } = proxyFor(HTTP, { http_proxy: ' user:pass@proxy.corp:3128 ' }) as { url: URL };
  expect([url.protocol, url.host, url.username, url.password]).toEqual([
    'http:',
    'proxy.corp:3128',
    'user',
    'pass',
  ]);
});

test('a value that is no proxy is refused by the name of the variable, never showing a password', () => {
  for (const value of [
    'http://',
    'http://user:se#cret@proxy:1',
    'http://user:12#secret@proxy:1',
    'http://user:secret@proxy:1/path',
    'http://user:%secret@proxy:1',
    'http://user:secret@proxy:99999',
    'ftp://user:secret@proxy:1',
  ]) {
    const find = () => proxyFor(HTTPS, { HTTPS_PROXY: value });
    expect(find, value).toThrow(ProxySettingError);
    expect(find, value).toThrow(/^HTTPS_PROXY /);
    expect(find, value).not.toThrow(/cret/);
  }
  const proxy = proxyFor(HTTPS, { HTTPS_PROXY: 'http://user:secret@proxy:1' });
  expect(proxyName(proxy as never)).toBe('the proxy http://proxy:1 (HTTPS_PROXY)');
});

test.each([
  ['*', 'http://hub.example.org/', true],
  ['hub.example.org', 'http://hub.example.org/', true],
  ['HUB.Example.ORG.', 'http://hub.example.org/', true],
  ['example.org', 'http://hub.example.org/', true],
  ['.example.org', 'http://hub.example.org/', true],
  ['*.example.org', 'http://hub.example.org/', true],
  ['ample.org', 'http://hub.example.org/', false],
  ['.hub.example.org', 'http://hub.example.org/', true],
  ['other.org, hub.example.org', 'http://hub.example.org/', true],
  ['other.org hub.example.org', 'http://hub.example.org/', true],
  ['hub.example.org:80', 'http://hub.example.org/', true],
  ['hub.example.org:443', 'https://hub.example.org/', true],
  ['hub.example.org:8080', 'http://hub.example.org/', false],
  ['example.org:8080', 'http://hub.example.org:8080/', true],
  ['127.0.0.1', 'http://127.0.0.1:81/', true],
  ['127.0.0.1:80', 'http://127.0.0.1:81/', false],
  ['27.0.0.1', 'http://127.0.0.1/', false],
  ['0.0.1', 'http://127.0.0.1/', false],
  ['10.0.0.0/8', 'http://10.200.3.4/', true],
  ['10.0.0.0/8', 'http://11.0.0.1/', false],
  ['10.0.0.0/33', 'http://10.0.0.0/', false],
  ['10.0.0.0/8', 'http://ten.example.org/', false],
  ['::1', 'http://[::1]:81/', true],
  ['[::1]', 'http://[::1]/', true],
  ['[::1]:81', 'http://[::1]:81/', true],
  ['[::1]:82', 'http://[::1]:81/', false],
  ['0:0:0:0:0:0:0:1', 'http://[::1]/', true],
  ['fd00::/8', 'http://[fd12::1]/', true],
  ['fd00::/8', 'http://[fe80::1]/', false],
  ['localhost', 'http://localhost:81/', true],
  [',, ,', 'http://hub.example.org/', false],
  ['.', 'http://hub.example.org/', false],
])('no_proxy %j and %s: %s', (list, address, exempt) => {
  const { protocol } = new URL(address);
  const variable = protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  for (const name of ['no_proxy', 'NO_PROXY'])
    expect(proxyFor(new URL(address), { [variable]: PROXY, [name]: list }) === undefined).toBe(exempt);
});
