import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  AbortError,
  AutoConfig,
  AutoModelForImageTextToText,
  AutoProcessor,
  AutoTokenizer,
  InputError,
  resolveRepo,
} from '../../src/index.ts';
import { run } from '../cli/capture.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { FakeHub, type FakeRepo } from '../hub/fake-hub.ts';
import { startOver } from '../hub/helpers.ts';

const ID = 'acme/sees';
const OLD = 'a'.repeat(40);
const NEW = 'b'.repeat(40);
const FOLDER = goldenModel('qwen3_vl_moe_e');

let hub: FakeHub;
let repo: FakeRepo;
beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  const names = readdirSync(FOLDER).filter((name) => statSync(join(FOLDER, name)).isFile());
  const files = Object.fromEntries(names.map((name) => [name, { bytes: readFileSync(join(FOLDER, name)) }]));
  repo = { commit: OLD, files, refs: { [OLD]: OLD } };
  await startOver(hub, { [ID]: repo });
});

const asked = () => hub.log.filter(({ place }) => place === 'api').length;

describe('a resolved repo', () => {
  test('is taken wherever an id is, and all of its loads are of one commit', async () => {
    const resolved = await resolveRepo(ID);
    expect(resolved).toMatchObject({ id: ID, commit: OLD });
    // The branch moves on.
    repo.commit = NEW;
    const config = await AutoConfig.fromPretrained(resolved);
    const tokenizer = await AutoTokenizer.fromPretrained(resolved);
    const processor = await AutoProcessor.fromPretrained(resolved, { tokenizer });
    const model = await AutoModelForImageTextToText.fromPretrained(resolved, { dtype: 'float32' });
    await model.dispose();
    expect(config.modelType).toBe('qwen3_vl_moe');
    expect(model.nameOrPath).toBe(ID);
    expect(processor.tokenizer).toBe(tokenizer);
    expect(asked()).toBe(1);
    const commits = hub.log.filter(({ place }) => place === 'resolve').map(({ revision }) => revision);
    expect(new Set(commits)).toEqual(new Set([OLD]));
  });

  test('a folder can be resolved as well', async () => {
    const resolved = await resolveRepo(FOLDER);
    expect(resolved.commit).toBeUndefined();
    expect((await AutoConfig.fromPretrained(resolved)).hasVision).toBe(true);
  });

  test('leaves no room for another revision, token or place', async () => {
    const resolved = await resolveRepo(ID);
    for (const options of [
      { revision: 'v1' },
      { token: 'hf_x' },
      { cacheDir: '/elsewhere' },
      { subfolder: 'a' },
      { localFilesOnly: true },
      { forceDownload: true },
    ]) {
      const loading = AutoTokenizer.fromPretrained(resolved, options);
      await expect(loading).rejects.toThrow(InputError);
      await expect(loading).rejects.toThrow(
        new RegExp(`${Object.keys(options)[0]}.*acme/sees is resolved already.*resolveRepo`),
      );
      await expect(loading).rejects.not.toThrow(/hf_x/);
    }
  });

  test('each load watches and ends its own downloads', async () => {
    const resolved = await resolveRepo(ID);
    const reason = new Error('enough');
    const ended = AutoConfig.fromPretrained(resolved, { signal: AbortSignal.abort(reason) });
    await expect(ended).rejects.toThrow(AbortError);
    await expect(ended).rejects.toMatchObject({ cause: reason });
    const files = new Set<string>();
    await AutoConfig.fromPretrained(resolved, { onProgress: ({ file }) => files.add(file) });
    expect([...files]).toEqual(['config.json']);
  });

  test('resolved with forceDownload, each file is fetched again once', async () => {
    await (await resolveRepo(ID)).require('config.json');
    hub.reset();
    const resolved = await resolveRepo(ID, { forceDownload: true });
    for (let i = 0; i < 3; i++) await AutoConfig.fromPretrained(resolved, { onProgress: () => {} });
    expect(hub.transfers().map(({ path }) => path)).toEqual(['config.json']);
  });
});

describe('a config taken from another repo', () => {
  beforeEach(() => {
    hub.repos.set('acme/other', {
      commit: NEW,
      refs: { v2: NEW },
      files: { 'config.json': repo.files['config.json'] as never },
    });
    repo.files['sub/config.json'] = { bytes: Buffer.from('{"model_type":"qwen3_mo"}') };
    repo.refs = { v1: OLD };
  });

  test('is of its own branch main and its own top folder', async () => {
    const options = { revision: 'v1', subfolder: 'sub', config: 'acme/other' };
    expect((await AutoConfig.fromPretrained(ID, options)).modelType).toBe('qwen3_vl_moe');
  });

  test('may be pinned by resolving it', async () => {
    const other = await resolveRepo('acme/other', { revision: 'v2' });
    hub.log.length = 0;
    const { modelType } = await AutoConfig.fromPretrained(FOLDER, { config: other });
    expect(modelType).toBe('qwen3_vl_moe');
    expect(asked()).toBe(0);
  });
});

test('a run of the command line asks for the commit once, whatever it loads', async () => {
  vi.stubEnv('HF_HUB_DISABLE_PROGRESS_BARS', '1');
  const image = join(FOLDER, 'images/gradient.png');
  const { exitCode, stderr } = await run([
    ...['generate', '--model', ID, '--chat', 'What?', '--image', image, '--max-new-tokens', '2'],
  ]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(asked()).toBe(1);
  const names = hub.transfers().map(({ path }) => path);
  expect(names).toHaveLength(new Set(names).size);
});
