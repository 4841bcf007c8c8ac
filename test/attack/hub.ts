/** A hub for attacks, with a repo of several shards, and what must be true of the cache whatever it does. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeHub, type FakeRepo } from '../hub/fake-hub.ts';
import { randomBytes, seededRandom } from '../hub/helpers.ts';

export const ID = 'acme/attacked';
const data = seededRandom(4);
export const repo: FakeRepo = {
  commit: 'abcdefabcdefabcdefabcdefabcdefabcdefabcd',
  files: {
    'config.json': { bytes: Buffer.from('{"model_type":"qwen3_moe"}') },
    'model.safetensors.index.json': { bytes: randomBytes(data, 20_000) },
    'model-00001-of-00003.safetensors': { bytes: randomBytes(data, 150_000), kind: 'lfs' },
    'model-00002-of-00003.safetensors': { bytes: randomBytes(data, 80_000), kind: 'xet' },
    'model-00003-of-00003.safetensors': { bytes: randomBytes(data, 1), kind: 'lfs' },
  },
};
export const NAMES = Object.keys(repo.files);
export const TOTAL = Object.values(repo.files).reduce((sum, { bytes }) => sum + bytes.length, 0);

/** What points a process at the hub and a cache, and lets it give up in seconds. */
export function hubVariables(hub: FakeHub, cache: string): Record<string, string> {
  return {
    HF_ENDPOINT: hub.url,
    HF_HOME: cache,
    HF_HUB_CACHE: cache,
    HF_TOKEN: '',
    HF_HUB_OFFLINE: '',
    HF_HUB_ETAG_TIMEOUT: '3',
    HF_HUB_DOWNLOAD_TIMEOUT: '3',
  };
}

/** A hub for one round; the environment points at it meanwhile. */
export async function withHub<T>(use: (hub: FakeHub) => Promise<T>, cache: string): Promise<T> {
  const hub = await FakeHub.start();
  hub.repos.set(ID, repo);
  const variables = hubVariables(hub, cache);
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return await use(hub);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await hub.stop();
  }
}

/** A file of the snapshot whose bytes are not the hub's, though it told their hash. */
export async function damagedFile(
  cache: string,
  unproven: ReadonlySet<string> = new Set(),
): Promise<string | undefined> {
  const snapshot = join(cache, `models--${ID.replace('/', '--')}`, 'snapshots', repo.commit);
  for (const name of NAMES) {
    const bytes = await readFile(join(snapshot, name)).catch(() => undefined);
    if (bytes && !unproven.has(name) && !bytes.equals(repo.files[name]?.bytes as Buffer)) return name;
  }
  return undefined;
}

/** What is left of unfinished downloads. */
export async function incompleteNames(cache: string): Promise<string[]> {
  const names = await readdir(cache, { recursive: true });
  return names.filter((name) => name.endsWith('.incomplete'));
}
