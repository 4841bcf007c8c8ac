/** Downloads that would never end, or bring what nobody asked for. */
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { etagOf, FakeHub, type FakeRepo, type Fault, type Seen } from './fake-hub.ts';
import { QUICK, randomBytes, seededRandom, startOver } from './helpers.ts';

const ID = 'acme/tiny-moe';
const WEIGHTS = 'model.safetensors';
const SIZE = 300_000;

let hub: FakeHub;
let repo: FakeRepo;
let cache: string;
const bytes = randomBytes(seededRandom(3), SIZE);

beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  repo = {
    commit: 'c'.repeat(40),
    files: {
      'config.json': { bytes: Buffer.from('{"model_type":"qwen2_moe"}') },
      [WEIGHTS]: { bytes, kind: 'lfs' },
    },
  };
  cache = await startOver(hub, { [ID]: repo });
});

const fetchFile = async (name = WEIGHTS, settings = {}) =>
  (await resolveRepo(ID, {}, { ...QUICK, ...settings })).require(name);
const sent = () =>
  hub.log.filter(({ range }) => range !== 'bytes=0-0').reduce((sum, seen) => sum + seen.sent, 0);

/** The hub announces another size than the storage has; `storage` is what goes wrong there besides. */
function announce(size: number, storage: Fault = {}): (seen: Seen) => Fault | undefined {
  return ({ place }) => {
    if (place === 'resolve') return { headers: { 'x-linked-size': String(size) } };
    return place === 'storage' ? storage : undefined;
  };
}

describe('a size that the storage does not have', () => {
  test.each([1, 1000, -1000])(
    'off by %i: said before a byte of it is kept, with both numbers',
    async (off) => {
      hub.fault = announce(SIZE + off);
      const failed = fetchFile();
      await expect(failed).rejects.toThrow(HubError);
      await expect(failed).rejects.toThrow(new RegExp(`${SIZE}.* ${SIZE + off} bytes`));
      expect(sent()).toBeLessThanOrEqual(SIZE);
      await expect(fetchFile()).rejects.toThrow(HubError);
    },
  );

  test('where the storage does not tell its length, one whole transfer shows it', async () => {
    hub.fault = announce(SIZE + 1000, { chunked: true });
    await expect(fetchFile()).rejects.toThrow(new RegExp(`only ${SIZE} of ${SIZE + 1000} bytes`));
    expect(sent()).toBe(SIZE);
  });

  test('nor honours Range: a few transfers, and it is given up', async () => {
    hub.fault = announce(SIZE + 1000, { chunked: true, ignoreRange: true });
    await expect(fetchFile()).rejects.toThrow(new RegExp(`${SIZE + 1000} bytes`));
    expect(sent()).toBeLessThan(8 * SIZE);
  });

  test('longer than announced, without a length', async () => {
    hub.fault = announce(SIZE - 1000, { chunked: true });
    await expect(fetchFile()).rejects.toThrow(/longer than the 299000 bytes/);
    expect(sent()).toBeLessThan(3 * SIZE);
  });
});

describe('a server that starts anew after each break', () => {
  test('is given up when several times the size of the file has come', async () => {
    const large = randomBytes(seededRandom(4), 2 ** 21);
    repo.files[WEIGHTS] = { bytes: large, kind: 'lfs' };
    // Each attempt comes a little further, so that each is progress.
    let attempt = 0;
    hub.fault = ({ place }) =>
      place === 'storage' ? { ignoreRange: true, cutAfter: 400_000 + 200_000 * attempt++ } : undefined;
    await expect(fetchFile()).rejects.toThrow(/does not honour Range/);
    expect(sent()).toBeLessThan(5 * large.length);
  });

  test('is given up after some breaks at the same place', async () => {
    hub.fault = ({ place }) => (place === 'storage' ? { ignoreRange: true, cutAfter: 200_000 } : undefined);
    await expect(fetchFile('model.safetensors', { retries: 3 })).rejects.toThrow(HubError);
    expect(sent()).toBeLessThan(4 * SIZE + 2 ** 20);
  });
});

describe('a body that drips', () => {
  // A drip is 50 bytes a second; a busy machine is far above the bound.
  const patience = { minBytesPerSecond: 200, speedWindowMs: 1000 };

  test('is tried once more and then given up, with the way to allow it', async () => {
    hub.fault = ({ place }) => (place === 'storage' ? { tricklesMs: 20 } : undefined);
    const failed = fetchFile(WEIGHTS, patience);
    await expect(failed).rejects.toThrow(
      /after 2 attempts.*less than 200 bytes a second.*SWITCHYARD_MIN_DOWNLOAD_SPEED/,
    );
    expect(hub.transfers()).toHaveLength(2);
  });

  test('of a small file as well', async () => {
    repo.files['config.json'] = { bytes: Buffer.alloc(5000, ' ') };
    hub.fault = ({ place }) => (place === 'resolve' ? { tricklesMs: 20 } : undefined);
    await expect(fetchFile('config.json', patience)).rejects.toThrow(/less than 200 bytes a second/);
  });

  test('is waited for where no speed is asked', async () => {
    repo.files[WEIGHTS] = { bytes: bytes.subarray(0, 20), kind: 'lfs' };
    hub.fault = ({ place }) => (place === 'storage' ? { tricklesMs: 20 } : undefined);
    await fetchFile(WEIGHTS, { ...patience, minBytesPerSecond: 0 });
  });

  test('and then comes at full speed is taken up where it was', async () => {
    let slow = 0;
    hub.fault = ({ place }) => (place === 'storage' && slow++ === 0 ? { tricklesMs: 20 } : undefined);
    // Long enough that a busy machine is not taken for a slow hub.
    await fetchFile(WEIGHTS, { ...patience, speedWindowMs: 1000 });
    expect(hub.transfers()).toHaveLength(2);
  });
});

describe('something else than the file', () => {
  const page = Buffer.from('<!doctype html><html><head><title>Sign in to Corp</title></head></html>');

  test('an HTML page in place of weights is said at once', async () => {
    for (const chunked of [true, false]) {
      hub.reset();
      hub.fault = ({ place }) =>
        place === 'storage'
          ? { bytes: page, headers: { 'content-type': 'text/html; charset=utf-8' }, chunked }
          : undefined;
      const failed = fetchFile();
      await expect(failed).rejects.toThrow(/an HTML page titled "Sign in to Corp".*proxy/);
      await expect(failed).rejects.toThrow(/instead of model\.safetensors of acme\/tiny-moe/);
      expect(hub.log.filter(({ place }) => place === 'storage')).toHaveLength(1);
    }
  });

  test('an HTML page in place of everything', async () => {
    const headers = { 'content-type': 'text/html' };
    hub.fault = () => ({ status: 200, headers });
    await expect(fetchFile()).rejects.toThrow(/something else than JSON.*HF_ENDPOINT/);
    hub.fault = ({ place }) => (place === 'resolve' ? { status: 200, headers } : undefined);
    await expect(fetchFile()).rejects.toThrow(/an HTML page instead of model\.safetensors/);
  });

  test('a packed body, though bytes as they are were asked for', async () => {
    hub.fault = ({ place, range }) =>
      place === 'resolve' && range === undefined
        ? { bytes: gzipSync('{"model_type":"qwen2_moe"}'), headers: { 'content-encoding': 'gzip' } }
        : undefined;
    await expect(fetchFile('config.json')).rejects.toThrow(/instead of config\.json.*packed with gzip/);
    expect(hub.transfers()).toHaveLength(1);
  });

  test('an HTML file of the repo is no fault', async () => {
    repo.files['page.html'] = { bytes: page };
    hub.fault = ({ path }) =>
      path === 'page.html' ? { headers: { 'content-type': 'text/html' } } : undefined;
    await fetchFile('page.html');
  });
});

test('a file of settings of a gigabyte is refused before it is fetched', async () => {
  for (const [name, kind] of Object.entries({ 'config.json': 'git', 'tokenizer.json': 'lfs' } as const)) {
    repo.files[name] = { bytes: Buffer.from('{}'), kind };
    hub.fault = ({ place }) =>
      place === 'resolve'
        ? { headers: { 'x-linked-size': String(2 ** 30), 'x-linked-etag': '"abc"' } }
        : undefined;
    await expect(fetchFile(name)).rejects.toThrow(new RegExp(`${name}.* has 1\\.1 GB, more than`));
  }
  expect(hub.transfers()).toEqual([]);
});

test('a file that is announced as empty, under the hash of another, is refused', async () => {
  for (const [name, headers] of [
    ['config.json', { 'content-range': 'bytes 0-0/0' }],
    [WEIGHTS, { 'x-linked-size': '0' }],
  ] as const) {
    hub.fault = ({ path }) => (path === name ? { headers } : undefined);
    await expect(fetchFile(name)).rejects.toThrow(new RegExp(`${name}.* arrived damaged`));
  }
});

describe('the name of a blob', () => {
  const blob = (name: string) => join(cache, 'models--acme--tiny-moe/blobs', name);
  const withEtag = (etag: string) => {
    hub.fault = ({ place }) => (place === 'resolve' ? { headers: { 'x-linked-etag': etag } } : undefined);
  };

  test('a hash in upper case is the hash', async () => {
    const hash = etagOf(repo.files[WEIGHTS] as never);
    withEtag(`"${hash.toUpperCase()}"`);
    await fetchFile();
    await access(blob(hash));
    hub.fault = ({ place }) => {
      if (place === 'resolve') return { headers: { 'x-linked-etag': `"${hash.toUpperCase()}"` } };
      return place === 'storage' ? { bytes: Buffer.alloc(SIZE) } : undefined;
    };
    const again = (await resolveRepo(ID, { forceDownload: true }, QUICK)).require(WEIGHTS);
    await expect(again).rejects.toThrow(/arrived damaged/);
  });

  test.each([`"${'e'.repeat(255)}"`, '"abc.incomplete"', '"abc.lock"', `"${'e'.repeat(4000)}"`, 'W/"5f-1a"'])(
    'of an ETag like %s the file is there, and there the next time',
    async (etag) => {
      withEtag(etag);
      await fetchFile();
      hub.log.length = 0;
      await fetchFile();
      expect(hub.transfers()).toEqual([]);
    },
  );

  test.each(['"same"', 'W/"5f-1a"'])('files that share the ETag %s are each their own', async (etag) => {
    repo.files['generation_config.json'] = { bytes: Buffer.from('{"model_type":"qwen3_moe"}') };
    hub.fault = ({ place }) =>
      place === 'resolve' ? { headers: { etag, 'x-linked-etag': etag } } : undefined;
    const names = Object.keys(repo.files);
    const paths = await (await resolveRepo(ID, {}, QUICK)).requireAll(names);
    for (const [at, name] of names.entries())
      expect(await readFile(paths[at] as string)).toEqual(repo.files[name]?.bytes);
  });
});
