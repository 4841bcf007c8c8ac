import { writeFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test, vi } from 'vitest';
import {
  defaultCacheDir,
  defaultToken,
  hubEndpoint,
  isOffline,
  timeouts,
} from '../../src/hub/environment.ts';
import { minDownloadSpeed } from '../../src/net/watchdog.ts';
import { temporaryFolder } from './helpers.ts';

test('HF_HUB_CACHE beats HF_HOME beats XDG_CACHE_HOME beats the home folder', () => {
  const all = { HF_HUB_CACHE: '/a', HF_HOME: '/b', XDG_CACHE_HOME: '/c' };
  expect(defaultCacheDir(all)).toBe(resolve('/a'));
  expect(defaultCacheDir({ ...all, HF_HUB_CACHE: '' })).toBe(resolve('/b/hub'));
  expect(defaultCacheDir({ XDG_CACHE_HOME: '/c' })).toBe(resolve('/c/huggingface/hub'));
  expect(defaultCacheDir({})).toBe(join(homedir(), '.cache/huggingface/hub'));
  expect(defaultCacheDir({ HF_HOME: '~/x' })).toBe(join(homedir(), 'x/hub'));
});

test('HF_TOKEN beats the token file, which HF_TOKEN_PATH moves', async () => {
  const home = await temporaryFolder();
  expect(await defaultToken({ HF_HOME: home })).toBeUndefined();
  await writeFile(join(home, 'token'), 'hf_home\n');
  await writeFile(join(home, 'other'), ' hf_other ');
  expect(await defaultToken({ HF_HOME: home })).toBe('hf_home');
  expect(await defaultToken({ HF_HOME: home, HF_TOKEN_PATH: join(home, 'other') })).toBe('hf_other');
  expect(await defaultToken({ HF_HOME: home, HF_TOKEN: 'hf_env' })).toBe('hf_env');
});

test('offline mode is on for the words huggingface_hub takes for yes', () => {
  for (const value of ['1', 'ON', 'Yes', 'true']) {
    expect(isOffline({ HF_HUB_OFFLINE: value })).toBe(true);
    expect(isOffline({ TRANSFORMERS_OFFLINE: value })).toBe(true);
  }
  for (const value of ['', '0', 'no', 'off']) expect(isOffline({ HF_HUB_OFFLINE: value })).toBe(false);
});

test('HF_ENDPOINT and the timeouts in seconds', () => {
  expect(hubEndpoint({ HF_ENDPOINT: 'http://mirror.test/' })).toBe('http://mirror.test');
  expect(timeouts({ HF_HUB_ETAG_TIMEOUT: '3', HF_HUB_DOWNLOAD_TIMEOUT: 'soon' })).toEqual({
    metadata: 3000,
    download: 10_000,
  });
});

test('a home folder of nothing is not the working directory', () => {
  vi.stubEnv('HOME', '');
  expect(defaultCacheDir({})).toBe(join(userInfo().homedir, '.cache/huggingface/hub'));
  vi.unstubAllEnvs();
});

test('SWITCHYARD_MIN_DOWNLOAD_SPEED is bytes a second, 0 for any', () => {
  const speeds = [undefined, '', 'fast', '-1', '0', '2.5e3'].map((value) =>
    minDownloadSpeed({ SWITCHYARD_MIN_DOWNLOAD_SPEED: value }),
  );
  expect(speeds).toEqual([1000, 1000, 1000, 1000, 0, 2500]);
});

test('a timeout is never longer than a timer can be, which would be none', () => {
  for (const text of ['1e12', 'Infinity'])
    expect(timeouts({ HF_HUB_DOWNLOAD_TIMEOUT: text }).download).toBe(2_147_483_000);
  for (const text of ['0', '-1', 'NaN', ''])
    expect(timeouts({ HF_HUB_DOWNLOAD_TIMEOUT: text }).download).toBe(10_000);
});
