import { createHash } from 'node:crypto';
import { lstat, mkdtemp, readdir, readFile, readlink, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, vi } from 'vitest';
import { etagOf, type FakeHub, type FakeRepo } from './fake-hub.ts';

/** Back-off short enough for tests; everything else as users have it. */
export const QUICK = { firstPauseMs: 1, longestPauseMs: 5 };

const HUB_VARIABLES = [
  'HF_HOME',
  'HF_HUB_CACHE',
  'HUGGINGFACE_HUB_CACHE',
  'XDG_CACHE_HOME',
  'HF_HUB_OFFLINE',
  'TRANSFORMERS_OFFLINE',
  'HF_TOKEN',
  'HUGGING_FACE_HUB_TOKEN',
  'HF_TOKEN_PATH',
  'HF_ENDPOINT',
  'SWITCHYARD_MIN_DOWNLOAD_SPEED',
  ...['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'].flatMap((name) => [name, name.toUpperCase()]),
  ...['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'],
];

/** A regular expression for a text as it stands. */
export function literally(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** Numbers that are the same in every run (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomBytes(random: () => number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = random() * 256;
  return bytes;
}

/** Points the environment at a fake hub and an empty cache; undone after each test. */
export function useHub(hub: FakeHub, cacheDir: string): void {
  for (const name of HUB_VARIABLES) vi.stubEnv(name, '');
  vi.stubEnv('HF_ENDPOINT', hub.url);
  vi.stubEnv('HF_HOME', cacheDir);
  vi.stubEnv('HF_HUB_CACHE', cacheDir);
  // A busy machine must not be taken for a hub that has fallen silent.
  vi.stubEnv('HF_HUB_ETAG_TIMEOUT', '1200');
  vi.stubEnv('HF_HUB_DOWNLOAD_TIMEOUT', '1200');
}

/** Begins anew: the hub has only these repos, and no memory; the environment points at it and at an empty cache, which is returned. */
export async function startOver(hub: FakeHub, repos: Readonly<Record<string, FakeRepo>>): Promise<string> {
  hub.reset();
  hub.repos.clear();
  for (const [id, repo] of Object.entries(repos)) hub.repos.set(id, repo);
  const cache = await temporaryFolder();
  useHub(hub, cache);
  return cache;
}

const folders: string[] = [];

export async function temporaryFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'switchyard-')));
  folders.push(folder);
  return folder;
}

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** Process warnings raised by `work`. */
export async function warningsOf(work: () => Promise<unknown>): Promise<string[]> {
  const warnings: string[] = [];
  const listener = (warning: Error) => warnings.push(warning.message);
  process.on('warning', listener);
  try {
    await work();
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('warning', listener);
  }
  return warnings;
}

/** A tree as `path → content`, symlinks as `-> target`; without `.locks`, which readers of a cache skip. */
export async function treeOf(folder: string, prefix = ''): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  for (const name of (await readdir(join(folder, prefix))).sort()) {
    const path = join(prefix, name);
    if (path === '.locks') continue;
    const found = await lstat(join(folder, path));
    if (found.isSymbolicLink()) tree[path] = `-> ${await readlink(join(folder, path))}`;
    else if (found.isDirectory()) Object.assign(tree, await treeOf(folder, path));
    else
      tree[path] = createHash('sha256')
        .update(await readFile(join(folder, path)))
        .digest('hex');
  }
  return tree;
}

/** What the cache of a repo must look like with exactly these files of it, byte for byte. */
export function expectedTree(id: string, repo: FakeRepo, names: readonly string[]): Record<string, string> {
  const base = `models--${id.replace('/', '--')}`;
  const tree: Record<string, string> = {
    [join(base, 'refs/main')]: createHash('sha256').update(repo.commit).digest('hex'),
  };
  for (const name of names) {
    const file = repo.files[name];
    if (file === undefined) throw new Error(`the fake repo has no ${name}`);
    const up = '../'.repeat(1 + name.split('/').length);
    tree[join(base, 'blobs', etagOf(file))] = createHash('sha256').update(file.bytes).digest('hex');
    tree[join(base, 'snapshots', repo.commit, name)] = `-> ${up}blobs/${etagOf(file)}`;
  }
  return tree;
}

/** Whatever has a final name in the cache has the bytes of the hub; only `.incomplete` files may be short. */
export async function expectNoPartialFile(cacheDir: string, id: string, repo: FakeRepo): Promise<void> {
  const blobs = join(cacheDir, `models--${id.replace('/', '--')}`, 'blobs');
  const whole = new Map(Object.values(repo.files).map((file) => [etagOf(file), file.bytes]));
  for (const name of await readdir(blobs).catch(() => [])) {
    if (name.endsWith('.incomplete')) continue;
    expect((await readFile(join(blobs, name))).equals(whole.get(name) as Buffer), name).toBe(true);
  }
}
