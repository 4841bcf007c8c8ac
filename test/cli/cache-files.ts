import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { vi } from 'vitest';
import { temporaryFolder } from '../hub/helpers.ts';

/** The model in the fixture cache, written by huggingface_hub 2.0.0; two of its blobs are symlinks into another store. */
export const CACHED_ID = 'acme/tiny-moe';
export const CACHED_COMMIT = '0123456789abcdef0123456789abcdef01234567';

/** A copy of the fixture cache that a test may change; the environment points to it, and to no network. */
export async function cacheCopy(): Promise<{ root: string; hub: string; repo: string }> {
  const root = await temporaryFolder();
  await cp(join(import.meta.dirname, '../fixtures/hub-cache'), root, {
    recursive: true,
    verbatimSymlinks: true,
  });
  const hub = join(root, 'hub');
  vi.stubEnv('HF_HUB_CACHE', hub);
  vi.stubEnv('HF_HUB_OFFLINE', '1');
  return { root, hub, repo: join(hub, 'models--acme--tiny-moe') };
}
