import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { FakeHub, type FakeRepo } from '../hub/fake-hub.ts';
import { startOver, temporaryFolder } from '../hub/helpers.ts';
import { CACHED_COMMIT, CACHED_ID } from './cache-files.ts';
import { run } from './capture.ts';

const SNAPSHOT = join(
  import.meta.dirname,
  '../fixtures/hub-cache/hub/models--acme--tiny-moe/snapshots',
  CACHED_COMMIT,
);
const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

let hub: FakeHub;
let repo: FakeRepo;
let cache: string;
beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  repo = { commit: CACHED_COMMIT, refs: { 'v1.0': CACHED_COMMIT }, files: {} };
  for (const name of ['config.json', 'model.safetensors.index.json', ...SHARDS]) {
    repo.files[name] = {
      bytes: await readFile(join(SNAPSHOT, name)),
      kind: name.endsWith('.safetensors') ? 'lfs' : 'git',
    };
  }
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'README.md', 'pytorch_model.bin']) {
    repo.files[name] = { bytes: Buffer.from(`{"${name}":1}`) };
  }
  cache = await startOver(hub, { [CACHED_ID]: repo });
});

test('fetches what a load needs and nothing else, and prints the folder', async () => {
  const { exitCode, stdout, stderr } = await run(['download', CACHED_ID]);
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: `${join(cache, 'models--acme--tiny-moe/snapshots', CACHED_COMMIT)}\n`,
  });
  expect(stderr).toMatch(/model-00001-of-00002\.safetensors: 3\.6 kB, done/);
  expect(stderr).toMatch(/^\d.* of weights in 2 of 2 files to fetch; .* are free in /m);
  expect(stderr).toMatch(/6 files/);
  const fetched = new Set(hub.log.filter(({ place }) => place !== 'api').map(({ path }) => path));
  expect(fetched).toEqual(
    new Set([
      'config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'model.safetensors.index.json',
      ...SHARDS,
    ]),
  );
});

test('what it fetched loads offline', async () => {
  await run(['download', CACHED_ID, '--revision', 'v1.0']);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  const { exitCode, stdout } = await run(['verify', CACHED_ID, '--revision', 'v1.0']);
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/complete and sound/),
  });
});

test('prints one JSON object with --json, and no progress when asked to be silent', async () => {
  vi.stubEnv('HF_HUB_DISABLE_PROGRESS_BARS', '1');
  const elsewhere = await temporaryFolder();
  const { stdout, stderr } = await run(['download', CACHED_ID, '--json', '--cache-dir', elsewhere]);
  expect(stderr).toBe('');
  const found = JSON.parse(stdout);
  expect(found).toMatchObject({ model: CACHED_ID, commit: CACHED_COMMIT });
  expect(found.folder.startsWith(elsewhere)).toBe(true);
  expect(found.files).toContainEqual({ name: SHARDS[1], bytes: 2512 });
  expect(found.bytes).toBe(found.files.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0));
});

test('--force fetches again, --token is sent', async () => {
  await run(['download', CACHED_ID]);
  hub.log.length = 0;
  await run(['download', CACHED_ID]);
  expect(hub.transfers()).toEqual([]);
  hub.log.length = 0;
  await run(['download', CACHED_ID, '--force', '--token', 'hf_secret']);
  expect(hub.transfers()).toHaveLength(6);
  const asked = hub.log.filter(({ place }) => place !== 'storage').map(({ authorization }) => authorization);
  expect(new Set(asked)).toEqual(new Set(['Bearer hf_secret']));
});

test('a model in one file, and a repo without weights', async () => {
  for (const name of ['model.safetensors.index.json', ...SHARDS]) delete repo.files[name];
  const { exitCode, stderr } = await run(['download', CACHED_ID]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/no weights: neither model\.safetensors nor/);
  repo.files['model.safetensors'] = {
    bytes: await readFile(
      join(import.meta.dirname, '../fixtures/goldens/malformed/ok_extra_tensor/model.safetensors'),
    ),
    kind: 'xet',
  };
  const whole = JSON.parse((await run(['download', CACHED_ID, '--json', '--force'])).stdout);
  expect(whole.files.map(({ name }: { name: string }) => name)).toEqual([
    'config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'model.safetensors',
  ]);
});

test.each([
  [['download'], 2, /missing required argument/],
  [['download', SNAPSHOT], 2, /is a folder on this disk/],
  [['download', 'demo'], 2, /demo is part of the package/],
  [['download', 'acme/typo'], 1, /acme\/typo was not found/],
  [['download', CACHED_ID, '--revision', 'v9'], 1, /no revision "v9"/],
])('%j ends with code %i', async (args, code, message) => {
  const { exitCode, stdout, stderr } = await run(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: '' });
  expect(stderr).toMatch(message);
});

test('refuses what cannot be run before the weights are fetched, unless told otherwise', async () => {
  repo.files['config.json'] = { bytes: Buffer.from('{"model_type":"llama"}') };
  const refused = await run(['download', CACHED_ID]);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toMatch(/model_type is "llama".*qwen3_moe.*--anyway/);
  expect(hub.transfers().map(({ path }) => path)).toEqual(['config.json']);
  const { exitCode, stderr } = await run(['download', CACHED_ID, '--anyway']);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/6 files/) });
});
