import { cp, readFile, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { CACHED_COMMIT, CACHED_ID, cacheCopy } from '../cli/cache-files.ts';
import { FakeHub } from './fake-hub.ts';
import { expectedTree, QUICK, temporaryFolder, treeOf, useHub, warningsOf } from './helpers.ts';

const FIXTURE = join(import.meta.dirname, '../fixtures/hub-cache');
const NAMES = [
  'config.json',
  'model.safetensors.index.json',
  'model-00001-of-00002.safetensors',
  'model-00002-of-00002.safetensors',
  'vision/config.json',
];

let hub: FakeHub;
beforeAll(async () => {
  hub = await FakeHub.start();
  const file = async (name: string, kind: 'git' | 'lfs' | 'xet' = 'git') => ({
    bytes: await readFile(join(FIXTURE, 'hub/models--acme--tiny-moe/snapshots', CACHED_COMMIT, name)),
    kind,
  });
  hub.repos.set(CACHED_ID, {
    commit: CACHED_COMMIT,
    refs: { 'v1.0': CACHED_COMMIT },
    files: {
      [NAMES[0] as string]: await file(NAMES[0] as string),
      [NAMES[1] as string]: await file(NAMES[1] as string),
      [NAMES[2] as string]: await file(NAMES[2] as string, 'lfs'),
      [NAMES[3] as string]: await file(NAMES[3] as string, 'xet'),
      [NAMES[4] as string]: await file(NAMES[4] as string),
    },
  });
});
afterAll(() => hub.stop());
beforeEach(() => hub.reset());

describe('a cache written by huggingface_hub', () => {
  test('loads offline, also blobs that are symlinks themselves', async () => {
    await cacheCopy();
    const repo = await resolveRepo(CACHED_ID);
    expect(repo.commit).toBe(CACHED_COMMIT);
    expect((await openCheckpoint(repo)).tensors.size).toBe(23);
    expect(await readFile(await repo.require('vision/config.json'), 'utf8')).toBe('{}');
    expect(await repo.file('generation_config.json')).toBeUndefined();
    expect(await realpath(await repo.require(NAMES[3] as string))).toContain('/store/');
  });

  test.each(['main', 'v1.0', CACHED_COMMIT])('loads at revision %s', async (revision) => {
    await cacheCopy();
    expect((await resolveRepo(CACHED_ID, { revision })).commit).toBe(CACHED_COMMIT);
  });

  test('is written alike here: same paths, links and bytes', async () => {
    const cache = await temporaryFolder();
    useHub(hub, cache);
    await (await resolveRepo(CACHED_ID, {}, QUICK)).requireAll(NAMES);
    await (await resolveRepo(CACHED_ID, { revision: 'v1.0' }, QUICK)).require('config.json');
    // The fixture, with the two outside blobs moved in, as huggingface_hub had written them.
    const { root, repo } = await cacheCopy();
    for (const name of Object.keys(await treeOf(join(root, 'store')))) {
      await rm(join(repo, 'blobs', name));
      await cp(join(root, 'store', name), join(repo, 'blobs', name));
    }
    await rm(join(repo, '.no_exist'), { recursive: true });
    expect(await treeOf(join(cache, 'models--acme--tiny-moe'))).toEqual(await treeOf(repo));
  });

  test('serves online loads without fetching anything again', async () => {
    const { hub: cache } = await cacheCopy();
    useHub(hub, cache);
    await (await resolveRepo(CACHED_ID, {}, QUICK)).requireAll(NAMES);
    expect(hub.transfers()).toEqual([]);
  });

  test('keeps the target when a blob that is a symlink is fetched again', async () => {
    const { root, hub: cache } = await cacheCopy();
    useHub(hub, cache);
    const before = await treeOf(join(root, 'store'));
    await (await resolveRepo(CACHED_ID, { forceDownload: true }, QUICK)).requireAll(NAMES);
    expect(await treeOf(join(root, 'store'))).toEqual(before);
    expect(await treeOf(join(cache))).toMatchObject(
      expectedTree(CACHED_ID, hub.repos.get(CACHED_ID) as never, NAMES),
    );
  });
});

describe('offline', () => {
  test.each(['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'])('%s keeps off the network', async (variable) => {
    const { hub: cache } = await cacheCopy();
    useHub(hub, cache);
    vi.stubEnv(variable, 'ON');
    await (await resolveRepo(CACHED_ID)).requireAll(NAMES);
    expect(hub.log).toEqual([]);
  });

  test('localFilesOnly keeps off the network', async () => {
    const { hub: cache } = await cacheCopy();
    useHub(hub, cache);
    await (await resolveRepo(CACHED_ID, { localFilesOnly: true })).requireAll(NAMES);
    expect(hub.log).toEqual([]);
  });

  test('a model that is not cached: says offline and how to get it', async () => {
    await cacheCopy();
    await expect(resolveRepo('acme/other')).rejects.toThrow(
      /acme\/other.*offline mode is on.*switchyard download acme\/other/,
    );
    await expect(resolveRepo(CACHED_ID, { revision: 'v2' })).rejects.toThrow(/"v2".*offline/);
    await expect(resolveRepo(CACHED_ID, { revision: 'f'.repeat(40) })).rejects.toThrow(/offline/);
  });

  test('files that are not cached are named, all of them', async () => {
    const { repo } = await cacheCopy();
    for (const name of NAMES.slice(2, 4)) await rm(join(repo, 'snapshots', CACHED_COMMIT, name));
    const opened = openCheckpoint(await resolveRepo(CACHED_ID));
    await expect(opened).rejects.toThrow(
      /model-00001-of-00002\.safetensors, model-00002-of-00002\.safetensors not in the cache.*switchyard download/,
    );
  });

  test('a link to a blob that is gone counts as absent', async () => {
    const { root } = await cacheCopy();
    await rm(join(root, 'store'), { recursive: true });
    await expect((await resolveRepo(CACHED_ID)).requireAll(NAMES)).rejects.toThrow(
      /model-00002-of-00002\.safetensors, vision\/config\.json/,
    );
  });

  test('forceDownload is refused', async () => {
    await cacheCopy();
    await expect(resolveRepo(CACHED_ID, { forceDownload: true })).rejects.toThrow(/forceDownload.*offline/);
  });
});

describe('a network that is down', () => {
  const down = async (cache: string) => {
    useHub(hub, cache);
    // Nothing listens there: a port that was free a moment ago.
    const gone = await FakeHub.start();
    const { url } = gone;
    await gone.stop();
    vi.stubEnv('HF_ENDPOINT', url);
  };

  test.each(['main', CACHED_COMMIT])('a cached model loads at %s, with one warning', async (revision) => {
    await down((await cacheCopy()).hub);
    const warnings = await warningsOf(async () => {
      const repo = await resolveRepo(CACHED_ID, { revision }, { ...QUICK, retries: 1 });
      expect((await openCheckpoint(repo)).tensors.size).toBe(23);
      expect(await repo.file('tokenizer.json')).toBeUndefined();
    });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/ECONNREFUSED.*cache/);
  });

  test('a hub that answers 500, or refuses, does not stop a cached model either', async () => {
    for (const status of [500, 401, 403]) {
      const { hub: cache } = await cacheCopy();
      useHub(hub, cache);
      hub.fault = () => ({ status });
      const warnings = await warningsOf(async () => {
        await openCheckpoint(await resolveRepo(CACHED_ID, {}, { ...QUICK, retries: 1 }));
      });
      expect(warnings.join(), String(status)).toMatch(new RegExp(`${status}.*Using commit ${CACHED_COMMIT}`));
    }
  });

  test('a model that is not cached is an error that names the cause', async () => {
    await down(await temporaryFolder());
    await expect(resolveRepo('acme/other', {}, { ...QUICK, retries: 1 })).rejects.toThrow(
      /acme\/other failed after 2 attempts.*ECONNREFUSED/,
    );
  });

  test('a revision that the hub does not know is an error even if an old one is cached', async () => {
    const { hub: cache } = await cacheCopy();
    useHub(hub, cache);
    const repo = hub.repos.get(CACHED_ID) as { refs?: Record<string, string> };
    const { refs } = repo;
    repo.refs = {};
    await expect(resolveRepo(CACHED_ID, { revision: 'v1.0' }, QUICK)).rejects.toThrow(/no revision "v1\.0"/);
    repo.refs = refs ?? {};
  });
});

describe('what names a model', () => {
  test('an existing folder wins over the hub', async () => {
    const folder = join(FIXTURE, 'hub/models--acme--tiny-moe/snapshots', CACHED_COMMIT);
    const repo = await resolveRepo(folder);
    expect(repo.commit).toBeUndefined();
    expect((await openCheckpoint(repo)).tensors.size).toBe(23);
    expect(await (await resolveRepo(folder, { subfolder: 'vision' })).require('config.json')).toBe(
      join(folder, 'vision/config.json'),
    );
  });

  test.each(['./nowhere', '/no/such/folder', 'a/b/c', 'a--b', '../x', 'a b', 'x.git', ''])(
    '%j is neither folder nor id, and the error explains both',
    async (name) => {
      await expect(resolveRepo(name)).rejects.toThrow(/folder/);
      await expect(resolveRepo(name)).rejects.toThrow(/repo id/);
    },
  );

  test('a file is not a folder', async () => {
    await expect(resolveRepo(join(FIXTURE, 'hub/CACHEDIR.TAG'))).rejects.toThrow(
      /is a file; a model is a folder/,
    );
  });

  test('files outside the folder are refused', async () => {
    const repo = await resolveRepo(FIXTURE);
    await expect(repo.file('../goldens/spec.json')).rejects.toThrow(/not a path inside/);
    await expect(resolveRepo(FIXTURE, { subfolder: '../x' })).rejects.toThrow(/subfolder/);
    await expect(repo.requireAll(['a', 'b'])).rejects.toThrow(/lacks a, b/);
    await expect(repo.file('hub')).rejects.toThrow(/not a regular file/);
  });
});
