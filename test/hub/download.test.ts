import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AbortError, HubError } from '../../src/errors.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import type { ProgressEvent } from '../../src/hub/types.ts';
import { etagOf, FakeHub, type FakeRepo } from './fake-hub.ts';
import {
  expectedTree,
  expectNoPartialFile,
  QUICK,
  randomBytes,
  seededRandom,
  startOver,
  treeOf,
  warningsOf,
} from './helpers.ts';

const ID = 'acme/tiny-moe';
const SHARDS = [
  'model-00001-of-00003.safetensors',
  'model-00002-of-00003.safetensors',
  'model-00003-of-00003.safetensors',
];
const random = seededRandom(1);
const COMMIT = '1234567890abcdef1234567890abcdef12345678';

let hub: FakeHub;
let repo: FakeRepo;
let cache: string;

beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  repo = {
    commit: COMMIT,
    files: {
      'config.json': { bytes: Buffer.from('{"model_type":"qwen2_moe"}\n') },
      'empty.txt': { bytes: Buffer.alloc(0) },
      'vision/config.json': { bytes: Buffer.from('{}') },
      [SHARDS[0] as string]: { bytes: randomBytes(random, 90_000), kind: 'lfs' },
      [SHARDS[1] as string]: { bytes: randomBytes(random, 120_000), kind: 'xet' },
      [SHARDS[2] as string]: { bytes: randomBytes(random, 70_001), kind: 'lfs' },
    },
  };
  cache = await startOver(hub, { [ID]: repo });
});

const open = (options = {}, settings = {}) => resolveRepo(ID, options, { ...QUICK, ...settings });
const shardBytes = (i: number) => repo.files[SHARDS[i] as string]?.bytes as Buffer;
const blobPath = (name: string) =>
  join(cache, 'models--acme--tiny-moe/blobs', etagOf(repo.files[name] as never));

async function plant(name: string, bytes: Buffer): Promise<void> {
  await mkdir(join(cache, 'models--acme--tiny-moe/blobs'), { recursive: true });
  await writeFile(`${blobPath(name)}.incomplete`, bytes);
}

describe('a download', () => {
  test('fills the cache in the layout of huggingface_hub, with git, LFS and Xet files', async () => {
    const opened = await open();
    expect(opened.commit).toBe(COMMIT);
    const names = ['config.json', 'empty.txt', 'vision/config.json', ...SHARDS];
    const paths = await opened.requireAll(names);
    for (const [i, name] of names.entries()) {
      expect(paths[i]).toBe(join(cache, 'models--acme--tiny-moe/snapshots', COMMIT, name));
      expect((await readFile(paths[i] as string)).equals(repo.files[name]?.bytes as Buffer)).toBe(true);
    }
    expect(await treeOf(cache)).toEqual(expectedTree(ID, repo, names));
  });

  test('fetches only the files asked for, and asks for the commit once', async () => {
    const opened = await open();
    await opened.require('config.json');
    await opened.require('config.json');
    expect(await opened.file('tokenizer.json')).toBeUndefined();
    expect(hub.log.filter(({ place }) => place === 'api')).toHaveLength(1);
    expect(hub.transfers().map(({ path }) => path)).toEqual(['config.json']);
    expect(await treeOf(cache)).toEqual(expectedTree(ID, repo, ['config.json']));
  });

  test('stays on its commit when the branch moves during the load', async () => {
    const opened = await open();
    const old = repo.files['config.json']?.bytes as Buffer;
    hub.repos.set(ID, { ...repo, commit: 'f'.repeat(40), refs: { [COMMIT]: COMMIT } });
    expect((await readFile(await opened.require('config.json'))).equals(old)).toBe(true);
    expect(hub.log.filter(({ place }) => place === 'resolve').length).toBeGreaterThan(0);
    expect((await readFile(join(cache, 'models--acme--tiny-moe/refs/main'), 'utf8')).trim()).toBe(COMMIT);
  });

  test('uses what is cached without asking for it again', async () => {
    await (await open()).requireAll(SHARDS);
    hub.reset();
    await (await open()).requireAll(SHARDS);
    expect(hub.log.map(({ place }) => place)).toEqual(['api']);
  });

  test('needs no request at all for a cached commit', async () => {
    await (await open()).requireAll(SHARDS);
    hub.reset();
    await (await open({ revision: COMMIT })).requireAll(SHARDS);
    expect(hub.log).toEqual([]);
  });

  test('remembers in .no_exist what a commit lacks', async () => {
    const opened = await open({ revision: COMMIT });
    expect(await opened.file('generation_config.json')).toBeUndefined();
    expect(
      existsSync(join(cache, 'models--acme--tiny-moe/.no_exist', COMMIT, 'generation_config.json')),
    ).toBe(true);
    hub.reset();
    expect(await (await open({ revision: COMMIT })).file('generation_config.json')).toBeUndefined();
    expect(hub.log).toEqual([]);
  });

  test('shares a blob between commits', async () => {
    await (await open()).require(SHARDS[0] as string);
    hub.reset();
    hub.repos.set(ID, { ...repo, commit: 'e'.repeat(40) });
    const path = await (await open()).require(SHARDS[0] as string);
    expect(path).toContain('e'.repeat(40));
    expect(hub.transfers()).toEqual([]);
  });

  test('fetches again with forceDownload', async () => {
    const path = await (await open()).require(SHARDS[0] as string);
    hub.reset();
    await (await open({ forceDownload: true })).require(SHARDS[0] as string);
    expect(hub.transfers()).toHaveLength(1);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
  });

  test('opens files of a subfolder', async () => {
    const path = await (await open({ subfolder: 'vision' })).require('config.json');
    expect(await readFile(path, 'utf8')).toBe('{}');
  });

  test('names every missing file at once, before fetching anything', async () => {
    const wanted = (await open()).requireAll(['a.safetensors', SHARDS[0] as string, 'b.safetensors']);
    await expect(wanted).rejects.toThrow(/a\.safetensors, b\.safetensors/);
    expect(hub.transfers()).toEqual([]);
  });

  test('transfers at most four files at once', async () => {
    const names = Array.from({ length: 9 }, (_, i) => `part-${i}.safetensors`);
    for (const name of names) repo.files[name] = { bytes: randomBytes(random, 20_000), kind: 'lfs' };
    let current = 0;
    let most = 0;
    let arrive = () => {};
    const four = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    // Nothing is answered before four have asked, and a fifth had its chance; where fewer ever ask, `most` tells.
    const wait = Promise.race([four.then(() => sleep(20)), sleep(60_000)]);
    hub.fault = ({ place }) => {
      if (place !== 'storage') return undefined;
      most = Math.max(most, ++current);
      if (current === 4) arrive();
      return { wait, onBytes: (sent) => void (sent >= 20_000 && current--) };
    };
    await (await open()).requireAll(names);
    expect(most).toBe(4);
  });

  test('reports progress that adds up over all files', async () => {
    const events: ProgressEvent[] = [];
    await (await open({ onProgress: (event: ProgressEvent) => events.push(event) })).requireAll(SHARDS);
    const total = shardBytes(0).length + shardBytes(1).length + shardBytes(2).length;
    expect(new Set(events.map(({ totalBytes }) => totalBytes))).toEqual(new Set([total]));
    expect(events.at(-1)).toMatchObject({ stage: 'download', totalLoadedBytes: total });
    for (const name of SHARDS) {
      const ends = events.filter(
        ({ file, loadedBytes, fileBytes }) => file === name && loadedBytes === fileBytes,
      );
      expect(ends, name).toHaveLength(1);
    }
  });
});

describe('a download that is disturbed', () => {
  test('continues a partial file with a Range request', async () => {
    await plant(SHARDS[0] as string, shardBytes(0).subarray(0, 50_000));
    const path = await (await open()).require(SHARDS[0] as string);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
    expect(hub.transfers().map(({ range, sent }) => [range, sent])).toEqual([['bytes=50000-', 40_000]]);
  });

  test('verifies a partial file that was already whole, without fetching', async () => {
    await plant(SHARDS[0] as string, shardBytes(0));
    await (await open()).require(SHARDS[0] as string);
    expect(hub.transfers()).toEqual([]);
    expect(existsSync(`${blobPath(SHARDS[0] as string)}.incomplete`)).toBe(false);
  });

  test('starts anew when the partial file turns out to be damaged or too long', async () => {
    for (const bytes of [Buffer.alloc(50_000, 7), Buffer.alloc(95_000, 7), Buffer.alloc(90_000, 7)]) {
      await plant(SHARDS[0] as string, bytes);
      const path = await (await open()).require(SHARDS[0] as string);
      expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
      await rm(join(cache, 'models--acme--tiny-moe'), { recursive: true });
    }
  });

  test('starts anew when the storage ignores ranges', async () => {
    await plant(SHARDS[0] as string, shardBytes(0).subarray(0, 50_000));
    hub.fault = ({ place }) => (place === 'storage' ? { ignoreRange: true } : undefined);
    const path = await (await open()).require(SHARDS[0] as string);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
  });

  test('picks up where a connection was cut, as often as it takes', async () => {
    hub.fault = ({ place }) => (place === 'storage' ? { cutAfter: 9000 } : undefined);
    const path = await (await open({}, { retries: 1 })).require(SHARDS[0] as string);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
    expect(hub.transfers().length).toBeGreaterThanOrEqual(10);
    expect(hub.transfers().reduce((sum, { sent }) => sum + sent, 0)).toBeLessThan(2 * 90_000);
  });

  test('waits as long as the hub asks', async () => {
    const times: number[] = [];
    hub.fault = ({ place }) => {
      if (place !== 'api') return undefined;
      times.push(performance.now());
      return times.length === 1 ? { status: 429, headers: { 'retry-after': '1' } } : undefined;
    };
    await open();
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThan(900);
  });

  test('tries again after 429 and 5xx, wherever they come from', async () => {
    for (const status of [429, 500, 502, 503, 504]) {
      for (const place of ['api', 'resolve', 'storage']) {
        const seen = new Set<string>();
        hub.fault = (request) => {
          if (request.place !== place || seen.has(place)) return undefined;
          seen.add(place);
          return { status, headers: { 'retry-after': '0' } };
        };
        const opened = await open({ forceDownload: true });
        await opened.require(SHARDS[2] as string);
        expect(seen.size, `${place} ${status}`).toBe(1);
      }
    }
  });

  test('gives up after the last attempt with a HubError that names file, status and remedy', async () => {
    hub.fault = ({ place }) => (place === 'storage' ? { status: 503 } : undefined);
    const wanted = (await open({}, { retries: 2 })).require(SHARDS[0] as string);
    await expect(wanted).rejects.toThrow(HubError);
    await expect(wanted).rejects.toThrow(
      /model-00001-of-00003\.safetensors.*3 attempts.*503.*Try again later/,
    );
  });

  test('does not wait for a hub that asks for an hour', async () => {
    hub.fault = () => ({ status: 429, headers: { 'retry-after': '3600' } });
    await expect(open()).rejects.toThrow(/429.*wait 3600 s/);
    expect(hub.log).toHaveLength(1);
  });

  test('treats a connection that falls silent as dropped', async () => {
    let stalls = 0;
    hub.fault = ({ place }) => (place === 'storage' && stalls++ === 0 ? { stallAfter: 16_384 } : undefined);
    const path = await (await open({}, { downloadTimeoutMs: 1000 })).require(SHARDS[0] as string);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
    expect(hub.transfers().at(-1)?.range).toBe('bytes=16384-');
  });

  test('treats a hub that never answers as dropped', async () => {
    hub.fault = () => ({ wait: new Promise(() => {}), status: 500 });
    await expect(open({}, { metadataTimeoutMs: 50, retries: 1 })).rejects.toThrow(/went silent/);
  });

  test('refuses bytes whose hash is wrong, names both hashes and keeps nothing', async () => {
    for (const name of [SHARDS[0] as string, 'config.json']) {
      const wrong = Buffer.from(repo.files[name]?.bytes as Buffer);
      wrong[5] = (wrong[5] as number) ^ 1;
      const right = etagOf(repo.files[name] as never);
      const place = name === 'config.json' ? 'resolve' : 'storage';
      hub.fault = (seen) => (seen.place === place && seen.path === name ? { bytes: wrong } : undefined);
      const wanted = (await open()).require(name);
      await expect(wanted).rejects.toThrow(HubError);
      await expect(wanted).rejects.toThrow(new RegExp(`${name.replaceAll('.', '\\.')}.*damaged.*${right}`));
      expect(existsSync(blobPath(name))).toBe(false);
      expect(existsSync(`${blobPath(name)}.incomplete`)).toBe(false);
    }
  });

  test('takes the right bytes after wrong ones', async () => {
    let first = true;
    hub.fault = ({ place }) => {
      if (place !== 'storage' || !first) return undefined;
      first = false;
      return { bytes: Buffer.alloc(90_000, 1) };
    };
    const path = await (await open()).require(SHARDS[0] as string);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
  });

  test('refuses a file that is longer or shorter than announced', async () => {
    hub.fault = ({ place }) =>
      place === 'storage' ? { bytes: Buffer.concat([shardBytes(0), Buffer.alloc(9)]) } : undefined;
    await expect((await open()).require(SHARDS[0] as string)).rejects.toThrow(/longer than the 90000 bytes/);
    hub.fault = ({ place }) =>
      place === 'storage' ? { bytes: shardBytes(0).subarray(0, 80_000) } : undefined;
    await expect((await open({}, { retries: 1 })).require(SHARDS[0] as string)).rejects.toThrow(
      /of 90000 bytes|another part|416/,
    );
    await expectNoPartialFile(cache, ID, repo);
  });

  test('fetches a blob again that has the wrong size on disk', async () => {
    const path = await (await open()).require(SHARDS[0] as string);
    await truncate(blobPath(SHARDS[0] as string), 100);
    hub.repos.set(ID, { ...repo, commit: 'd'.repeat(40) });
    let opened = '';
    const warnings = await warningsOf(async () => {
      opened = await (await open()).require(SHARDS[0] as string);
    });
    expect(warnings.join()).toMatch(/100 bytes instead of 90000/);
    expect((await readFile(opened)).equals(shardBytes(0))).toBe(true);
    expect((await readFile(path)).equals(shardBytes(0))).toBe(true);
  });

  test('ends at once when aborted, and continues later', async () => {
    const abort = new AbortController();
    hub.fault = ({ place }) => (place === 'storage' ? { stallAfter: 40_960 } : undefined);
    const wanted = (await open({ signal: abort.signal })).require(SHARDS[0] as string);
    wanted.catch(() => {});
    const partial = `${blobPath(SHARDS[0] as string)}.incomplete`;
    await expect.poll(() => stat(partial).catch(() => undefined)).toMatchObject({ size: 40_960 });
    abort.abort();
    await expect(wanted).rejects.toThrow(AbortError);
    await expect(open({ signal: abort.signal })).rejects.toThrow(AbortError);
    hub.reset();
    await (await open()).require(SHARDS[0] as string);
    expect(hub.transfers().map(({ range }) => range)).toEqual(['bytes=40960-']);
  });

  test('ends the other transfers when one shard fails for good', async () => {
    hub.fault = ({ place, path }) => {
      if (place !== 'storage') return undefined;
      return path === SHARDS[0] ? { status: 403 } : { stallAfter: 8192 };
    };
    await expect((await open()).requireAll(SHARDS)).rejects.toThrow(/403/);
  });

  // /dev/full answers every write with "no space left on device".
  test.skipIf(!existsSync('/dev/full'))('says that the disk is full and leaves the cache valid', async () => {
    await mkdir(join(cache, 'models--acme--tiny-moe/blobs'), { recursive: true });
    await symlink('/dev/full', `${blobPath(SHARDS[0] as string)}.incomplete`);
    const wanted = (await open()).requireAll(['config.json', SHARDS[0] as string]);
    await expect(wanted).rejects.toThrow(
      /disk full: model-00001-of-00003\.safetensors needs 90\.0 kB more.*HF_HUB_CACHE/,
    );
    await expectNoPartialFile(cache, ID, repo);
    expect(existsSync(join(cache, 'models--acme--tiny-moe/snapshots', COMMIT, SHARDS[0] as string))).toBe(
      false,
    );
  });
});

describe('a hub that refuses', () => {
  test('gated without a token: where to ask for access, and to pass a token', async () => {
    repo.needs = { token: 'hf_right', status: 401, code: 'GatedRepo' };
    await expect((await open()).require('config.json')).rejects.toThrow(
      new RegExp(`acme/tiny-moe is gated \\(401\\).*${hub.url}/acme/tiny-moe.*HF_TOKEN`),
    );
  });

  test('gated with a token that has no access', async () => {
    repo.needs = { token: 'hf_right', status: 403, code: 'GatedRepo' };
    await expect((await open({ token: 'hf_other' })).require('config.json')).rejects.toThrow(
      /gated \(403\).*pending/,
    );
  });

  test('a repo that is missing or private', async () => {
    await expect(resolveRepo('acme/typo', {}, QUICK)).rejects.toThrow(
      /acme\/typo was not found.*spelling.*HF_TOKEN/,
    );
    hub.fault = () => ({ status: 401 });
    await expect(open({ token: 'hf_x' })).rejects.toThrow(/not found.*\(401\).*the token in use is invalid/);
  });

  test('a revision that does not exist', async () => {
    await expect(open({ revision: 'v9' })).rejects.toThrow(/acme\/tiny-moe has no revision "v9"/);
  });

  test('a token without permission', async () => {
    hub.fault = () => ({ status: 403, headers: { 'x-error-message': 'fine-grained token lacks scope' } });
    await expect(open({ token: 'hf_x' })).rejects.toThrow(
      /403, "fine-grained token lacks scope".*lacks permission/,
    );
  });

  test('refusals are not tried again', async () => {
    hub.fault = () => ({ status: 403 });
    await expect(open()).rejects.toThrow(HubError);
    expect(hub.log).toHaveLength(1);
  });
});

describe('a hub that misbehaves', () => {
  test('the token goes to the hub and never to the storage it redirects to', async () => {
    repo.needs = { token: 'hf_right', status: 401 };
    await (await open({ token: 'hf_right' })).require(SHARDS[0] as string);
    const tokens = (place: string) =>
      new Set(hub.log.filter((seen) => seen.place === place).map((s) => s.authorization));
    expect(tokens('resolve')).toEqual(new Set(['Bearer hf_right']));
    expect(tokens('storage')).toEqual(new Set([undefined]));
  });

  test('an endless redirect ends', async () => {
    hub.fault = () => ({
      status: 302,
      headers: { location: `${hub.url}/acme/tiny-moe/resolve/main/config.json` },
    });
    await expect(open()).rejects.toThrow(/redirected more than 10 times/);
  });

  test('a redirect to something else than HTTP is refused', async () => {
    hub.fault = () => ({ status: 302, headers: { location: 'file:///etc/passwd' } });
    await expect(open()).rejects.toThrow(/redirects to file:.*not followed/);
  });

  test('an ETag that is a path names no blob', async () => {
    hub.fault = ({ place }) =>
      place === 'resolve' ? { headers: { 'x-linked-etag': '"../../../evil"' } } : undefined;
    await expect((await open()).require(SHARDS[0] as string)).rejects.toThrow(/ETag.*names no blob/);
  });

  test('an answer that is no JSON, or names no commit', async () => {
    hub.fault = () => ({ status: 200 });
    await expect(open()).rejects.toThrow(/something else than JSON.*HF_ENDPOINT/);
    repo.commit = 'not-a-commit';
    hub.reset();
    await expect(open()).rejects.toThrow(/names no commit/);
  });

  test('file names that leave the repo are refused', async () => {
    const opened = await open();
    for (const name of ['../x', '/etc/passwd', 'a/../../x', 'a//b', 'C:/x', 'a\\b', '.', '']) {
      await expect(opened.file(name), name).rejects.toThrow(/not a path inside the repo/);
    }
    await expect(open({ revision: '../../x' })).rejects.toThrow(/revision .* is not a path/);
  });
});
