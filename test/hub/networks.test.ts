/** Networks that stand between a program and the hub: proxies, certificates of their own, mirrors. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { type ProxyBehaviour, startProxy, startSocksProxy } from '../net/proxy-server.ts';
import { CERTIFICATE } from '../net/tls.ts';
import { FakeHub, type FakeHubOptions, type FakeRepo } from './fake-hub.ts';
import {
  literally,
  QUICK,
  randomBytes,
  seededRandom,
  temporaryFolder,
  useHub,
  warningsOf,
} from './helpers.ts';

const ID = 'acme/tiny-moe';
const WEIGHTS = 'model.safetensors';
const repo: FakeRepo = {
  commit: '1234567890abcdef1234567890abcdef12345678',
  files: {
    'config.json': { bytes: Buffer.from('{"model_type":"qwen2_moe"}\n') },
    [WEIGHTS]: { bytes: randomBytes(seededRandom(1), 90_000), kind: 'lfs' },
  },
};
const NAMES = Object.keys(repo.files);

async function startHub(options: FakeHubOptions = {}): Promise<FakeHub> {
  const hub = await FakeHub.start(options);
  onTestFinished(() => hub.stop());
  hub.repos.set(ID, repo);
  useHub(hub, await temporaryFolder());
  return hub;
}

async function proxy(behaviour: ProxyBehaviour = {}) {
  const running = await startProxy(behaviour);
  onTestFinished(running.stop);
  return running;
}

/** Every file comes, whole. */
async function expectDownload(settings = {}): Promise<void> {
  const opened = await resolveRepo(ID, {}, { ...QUICK, ...settings });
  const paths = await opened.requireAll(NAMES);
  for (const [i, name] of NAMES.entries())
    expect((await readFile(paths[i] as string)).equals(repo.files[name]?.bytes as Buffer)).toBe(true);
}

/** Too long for a name, so that nobody is asked for its address. */
const NO_NAME = `${'n'.repeat(64)}.invalid`;
const HOSTS = { host: 'hub.invalid', storageHost: 'storage.invalid' };

describe('through a proxy', () => {
  test.each(['http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'])('that %s names', async (variable) => {
    await startHub(HOSTS);
    const { port, log } = await proxy();
    vi.stubEnv(variable, `http://127.0.0.1:${port}`);
    await expectDownload();
    const hosts = new Set(log.map((line) => new URL(line.split(' ')[1] as string).hostname));
    expect(hosts).toEqual(new Set(['hub.invalid', 'storage.invalid']));
  });

  test('that wants user and password', async () => {
    await startHub(HOSTS);
    const { port } = await proxy({ credentials: 'me@corp:a b/c' });
    vi.stubEnv('HTTP_PROXY', `http://me%40corp:a%20b%2Fc@127.0.0.1:${port}`);
    await expectDownload();
  });

  test('https to the hub and its storage, by CONNECT, with the token out of its sight', async () => {
    await startHub({ ...HOSTS, tls: true });
    const { port, log } = await proxy({ credentials: 'u:p' });
    vi.stubEnv('https_proxy', `http://u:p@127.0.0.1:${port}`);
    vi.stubEnv('SSL_CERT_FILE', CERTIFICATE);
    await expectDownload();
    expect(new Set(log.map((line) => line.replace(/:\d+$/, '')))).toEqual(
      new Set(['CONNECT hub.invalid', 'CONNECT storage.invalid']),
    );
  });

  test.each([true, false])('that speaks TLS itself, to a hub with TLS: %s', async (tls) => {
    await startHub({ ...HOSTS, tls });
    const { port, log } = await proxy({ tls: true });
    vi.stubEnv('ALL_PROXY', `https://127.0.0.1:${port}`);
    vi.stubEnv('SSL_CERT_FILE', CERTIFICATE);
    await expectDownload();
    expect(log.length).toBeGreaterThan(0);
  });

  test.each([true, false])('of the kind SOCKS, to a hub with TLS: %s', async (tls) => {
    await startHub({ ...HOSTS, tls });
    const socks = await startSocksProxy();
    onTestFinished(socks.stop);
    vi.stubEnv('ALL_PROXY', `socks5h://127.0.0.1:${socks.port}`);
    vi.stubEnv('SSL_CERT_FILE', CERTIFICATE);
    await expectDownload();
    expect(new Set(socks.log.map((line) => line.split(':')[0]))).toEqual(
      new Set(['hub.invalid', 'storage.invalid']),
    );
  });

  test('hosts that no_proxy names are reached directly, also after a redirect', async () => {
    await startHub({ host: 'hub.invalid' });
    const { port, log } = await proxy();
    vi.stubEnv('http_proxy', `http://127.0.0.1:${port}`);
    vi.stubEnv('no_proxy', '127.0.0.0/8');
    await expectDownload();
    expect(new Set(log.map((line) => new URL(line.split(' ')[1] as string).hostname))).toEqual(
      new Set(['hub.invalid']),
    );
  });

  const refusals: [string, ProxyBehaviour, string, RegExp][] = [
    ['asks for a password', { credentials: 'u:p' }, 'http://', /asks for a user name and password \(407\)/],
    [
      'refuses the password',
      { credentials: 'u:p' },
      'http://me:secret@',
      /does not accept the user name and password/,
    ],
    ['forbids the host', { status: 403 }, 'http://', /hub\.invalid|403/],
  ];
  test.each(refusals)(
    'one that %s is named with its variable, at once',
    async (_, behaviour, start, message) => {
      for (const tls of [true, false]) {
        await startHub({ ...HOSTS, tls });
        const { port, log } = await proxy(behaviour);
        vi.stubEnv('ALL_PROXY', `${start}127.0.0.1:${port}`);
        const failed = resolveRepo(ID, {}, QUICK);
        await expect(failed).rejects.toThrow(HubError);
        await expect(failed).rejects.toThrow(message);
        await expect(failed).rejects.toThrow(
          new RegExp(`the proxy http://127\\.0\\.0\\.1:${port} \\(ALL_PROXY\\)`),
        );
        await expect(failed).rejects.not.toThrow(/secret/);
        expect(log).toHaveLength(1);
      }
    },
  );

  test.each(['http', 'https', 'socks5h'])(
    'one that is not there (%s) is named with its variable',
    async (kind) => {
      await startHub(HOSTS);
      const gone = await startProxy();
      await gone.stop();
      vi.stubEnv('http_proxy', `${kind}://me:secret@127.0.0.1:${gone.port}`);
      const failed = resolveRepo(ID, {}, QUICK);
      await expect(failed).rejects.toThrow(
        new RegExp(
          `the proxy ${kind}://127\\.0\\.0\\.1:${gone.port} \\(http_proxy\\).*ECONNREFUSED.*NO_PROXY`,
        ),
      );
      await expect(failed).rejects.not.toThrow(/secret/);
    },
  );

  test('one that no_proxy keeps from being asked is named where its host cannot be reached', async () => {
    await startHub(HOSTS);
    vi.stubEnv('http_proxy', 'http://me:secret@proxy.invalid:1');
    vi.stubEnv('no_proxy', '.invalid');
    const failed = resolveRepo(ID, {}, QUICK);
    await expect(failed).rejects.toThrow(
      /hub\.invalid cannot be resolved.* NO_PROXY names that host, so the proxy http:\/\/proxy\.invalid:1 \(http_proxy\) was not asked/,
    );
    await expect(failed).rejects.not.toThrow(/secret/);
  });

  test('one whose name cannot be resolved, and one that is none', async () => {
    await startHub(HOSTS);
    vi.stubEnv('http_proxy', `http://${NO_NAME}:1`);
    await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(/invalid:1 \(http_proxy\) cannot be used: E/);
    vi.stubEnv('http_proxy', 'http://me:sec#ret@proxy.invalid:1');
    const failed = resolveRepo(ID, {}, QUICK);
    await expect(failed).rejects.toThrow(/http_proxy is not the address of a proxy/);
    await expect(failed).rejects.not.toThrow(/ret@/);
  });

  test.each([true, false])('one that never answers ends with the timeout, TLS: %s', async (tls) => {
    await startHub({ ...HOSTS, tls });
    const { port } = await proxy({ mute: true });
    vi.stubEnv('ALL_PROXY', `http://127.0.0.1:${port}`);
    const settings = { ...QUICK, retries: 0, metadataTimeoutMs: 50 };
    await expect(resolveRepo(ID, {}, settings)).rejects.toThrow(/went silent.*\(ALL_PROXY\)/);
  });
});

test('what a proxy answers in place of the hub is said to have come through it', async () => {
  await startHub(HOSTS);
  const { port, log } = await proxy({ status: 502 });
  vi.stubEnv('http_proxy', `http://127.0.0.1:${port}`);
  await expect(resolveRepo(ID, {}, { ...QUICK, retries: 1 })).rejects.toThrow(
    new RegExp(`answered 502 through the proxy http://127\\.0\\.0\\.1:${port} \\(http_proxy\\)`),
  );
  expect(log).toHaveLength(2);
});

describe('a certificate', () => {
  test('that nobody vouches for is refused at once, with the way to trust it', async () => {
    const hub = await startHub({ tls: true });
    const failed = resolveRepo(ID, {}, QUICK);
    await expect(failed).rejects.toThrow(HubError);
    await expect(failed).rejects.toThrow(
      /certificate of 127\.0\.0\.1.* is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\).*SSL_CERT_FILE.*NODE_EXTRA_CA_CERTS/,
    );
    expect(hub.log).toEqual([]);
  });

  test.each(['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'])(
    'that %s vouches for',
    async (variable) => {
      await startHub({ tls: true });
      vi.stubEnv(variable, CERTIFICATE);
      await expectDownload();
    },
  );

  test('of another host is refused', async () => {
    await startHub({ tls: true, host: 'proxied.invalid' });
    const { port } = await proxy();
    vi.stubEnv('https_proxy', `http://127.0.0.1:${port}`);
    vi.stubEnv('SSL_CERT_FILE', CERTIFICATE);
    await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(
      /certificate of proxied\.invalid.*is of another host/,
    );
  });

  test('a variable that names none is named, with its file', async () => {
    await startHub({ tls: true });
    const empty = join(await temporaryFolder(), 'empty.pem');
    await writeFile(empty, 'nothing');
    for (const path of [resolve('/no/such.pem'), empty]) {
      vi.stubEnv('SSL_CERT_FILE', path);
      await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(
        new RegExp(`SSL_CERT_FILE.*${literally(path)}`),
      );
    }
  });

  test('an address that should begin with http', async () => {
    const hub = await startHub();
    vi.stubEnv('HF_ENDPOINT', hub.url.replace('http:', 'https:'));
    await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(/does not speak TLS.*http:\/\//);
  });

  test('an address that should begin with https', async () => {
    const hub = await startHub({ tls: true });
    vi.stubEnv('HF_ENDPOINT', hub.url.replace('https:', 'http:'));
    await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(/HF_ENDPOINT should begin with https:\/\//);
  });
});

describe('a mirror', () => {
  const kinds: [string, FakeHubOptions][] = [
    ['that knows no query', { api: 'plain' }],
    ...[404, 405, 501].map((refuses): [string, FakeHubOptions] => [
      `of files alone, which answers ${refuses} to the API`,
      { api: { refuses } },
    ]),
    ['below a path', { prefix: '/mirrors/hf' }],
    ['of files alone below a path', { prefix: '/hf', api: { refuses: 404 } }],
  ];
  test.each(kinds)('%s', async (_, options) => {
    const hub = await startHub(options);
    await expectDownload();
    const opened = await resolveRepo(ID, {}, QUICK);
    expect(opened.commit).toBe(repo.commit);
    expect(await opened.file('generation_config.json')).toBeUndefined();
    hub.reset();
    await (await resolveRepo(ID, { revision: repo.commit }, QUICK)).requireAll(NAMES);
    expect(hub.log).toEqual([]);
  });

  test('of files alone says what it lacks', async () => {
    await startHub({ api: { refuses: 404 } });
    await expect(resolveRepo('acme/other', {}, QUICK)).rejects.toThrow(/acme\/other was not found/);
    await expect(resolveRepo(ID, { revision: 'v9' }, QUICK)).rejects.toThrow(/no revision "v9"/);
  });

  test('that names files by the SHA-1 of their bytes, as repository managers do', async () => {
    const hub = await startHub();
    const sha1 = createHash('sha1')
      .update(repo.files['config.json']?.bytes as Buffer)
      .digest('hex');
    let wrong = false;
    hub.fault = ({ path, range }) => {
      if (path !== 'config.json') return undefined;
      const isProbe = range === 'bytes=0-0';
      return { headers: { etag: `"${sha1}"` }, ...(wrong && !isProbe && { bytes: Buffer.alloc(27) }) };
    };
    await expectDownload();
    wrong = true;
    const again = (await resolveRepo(ID, { forceDownload: true }, QUICK)).require('config.json');
    await expect(again).rejects.toThrow(/config\.json.* arrived damaged/);
  });

  test('that is not complete: what it does not serve may come another time', async () => {
    const hub = await startHub({ api: { refuses: 404 } });
    hub.fault = ({ path, range }) =>
      path === WEIGHTS && range !== undefined ? { status: 404, headers: {} } : undefined;
    const { commit: revision } = repo;
    expect(await (await resolveRepo(ID, { revision }, QUICK)).file(WEIGHTS)).toBeUndefined();
    hub.reset();
    expect(await (await resolveRepo(ID, { revision }, QUICK)).file(WEIGHTS)).toBeDefined();
    expect(await (await resolveRepo(ID, { revision }, QUICK)).file('no.json')).toBeUndefined();
    hub.reset();
    expect(await (await resolveRepo(ID, { revision }, QUICK)).file('no.json')).toBeUndefined();
    expect(hub.log).toEqual([]);
  });

  test('with user and password in its address, which no message shows', async () => {
    const hub = await startHub();
    const seen = new Set<string | undefined>();
    hub.fault = ({ place, authorization }) => void (place !== 'storage' && seen.add(authorization));
    vi.stubEnv('HF_ENDPOINT', hub.url.replace('//', '//me:secret@'));
    await expectDownload();
    expect([...seen]).toEqual([`Basic ${Buffer.from('me:secret').toString('base64')}`]);
    const failed = resolveRepo('acme/other', {}, QUICK);
    await expect(failed).rejects.toThrow(/not found/);
    await expect(failed).rejects.not.toThrow(/secret/);
  });

  test.each(['hub.example.org', 'ftp://hub.example.org', 'http://', 'https://hub.example.org/?x=1'])(
    'HF_ENDPOINT %j is no address',
    async (endpoint) => {
      await startHub();
      vi.stubEnv('HF_ENDPOINT', endpoint);
      await expect(resolveRepo(ID, {}, QUICK)).rejects.toThrow(/HF_ENDPOINT is .*; expected an address/);
    },
  );
});

describe('no network', () => {
  test('is said soon, with what could be meant', async () => {
    await startHub();
    vi.stubEnv('HF_ENDPOINT', `http://${NO_NAME}`);
    const failed = resolveRepo(ID, {}, { ...QUICK, retries: 50 });
    await expect(failed).rejects.toThrow(/after 2 attempts.*invalid cannot be resolved/);
    await expect(failed).rejects.toThrow(/HF_ENDPOINT.*HTTPS_PROXY.*HF_HUB_OFFLINE/);
  });

  test('a pause between attempts is told', async () => {
    const hub = await startHub();
    let failures = 0;
    hub.fault = ({ place }) => (place === 'api' && failures++ < 2 ? { status: 503 } : undefined);
    const told: string[] = [];
    const onWarning = (message: string) => told.push(message);
    await resolveRepo(ID, { onWarning }, { ...QUICK, toldPauseMs: 0 });
    expect(told).toHaveLength(2);
    expect(told[0]).toMatch(/asking for acme\/tiny-moe: .* answered 503; trying again in 1 s \(1 of 5\)/);
    failures = 0;
    const warnings = await warningsOf(() => resolveRepo(ID, {}, QUICK));
    expect(warnings).toEqual([]);
  });
});
