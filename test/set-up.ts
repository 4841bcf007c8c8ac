/**
 * Runs before every test file: neither settings nor folders of whoever runs the tests reach them, nor the other way round. What a file
 * leaves among the temporary ones, itself or by a process it started, goes with it. Files may share a process, and each leaves it as
 * it was: the next one has modules, settings and globals of its own.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, vi } from 'vitest';

const THEIRS = /^(HF_|HUGGING_?FACE|TRANSFORMERS_OFFLINE$|(https?|all|no)_proxy$)/i;

/** What puts back what the file before has changed, until it is called. */
const OWED = Symbol.for('switchyard: to be put back');
const owed = globalThis as { [OWED]?: (() => void) | undefined };
// Vitest calls no hook of a file whose tests are all skipped, and none after one that failed.
owed[OWED]?.();

const { env } = process;
const found = { ...env };
// Some libraries replace a few. What is Vitest's own changes with the file.
const globals = Object.entries(Object.getOwnPropertyDescriptors(globalThis)).filter(
  ([name]) => !name.startsWith('__vitest'),
);
const folder = mkdtempSync(join(tmpdir(), 'switchyard-test-'));
owed[OWED] = () => {
  owed[OWED] = undefined;
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  vi.resetModules();
  for (const [name, descriptor] of globals) Object.defineProperty(globalThis, name, descriptor);
  process.env = env;
  for (const name of Object.keys(env)) if (!(name in found)) delete env[name];
  Object.assign(env, found);
  rmSync(folder, { recursive: true, force: true });
};
afterAll(async () => {
  // The next file could not load what one that ended is still loading.
  await vi.dynamicImportSettled();
  const isReplaced = process.env !== env;
  owed[OWED]?.();
  if (isReplaced) throw new Error('process.env is another object: set variables with vi.stubEnv');
});

for (const name of Object.keys(env)) if (THEIRS.test(name)) delete env[name];
for (const name of ['TMPDIR', 'TEMP', 'TMP']) env[name] = folder;
env.HF_HOME = join(folder, 'huggingface');
env.SWITCHYARD_CACHE = join(folder, 'switchyard');
