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

const { env } = process;
const found = { ...env };
const folder = mkdtempSync(join(tmpdir(), 'switchyard-test-'));
afterAll(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  vi.resetModules();
  if (process.env !== env) throw new Error('process.env is another object: set variables with vi.stubEnv');
  for (const name of Object.keys(env)) if (!(name in found)) delete env[name];
  Object.assign(env, found);
  rmSync(folder, { recursive: true, force: true });
});

for (const name of Object.keys(env)) if (THEIRS.test(name)) delete env[name];
for (const name of ['TMPDIR', 'TEMP', 'TMP']) env[name] = folder;
env.HF_HOME = join(folder, 'huggingface');
env.SWITCHYARD_CACHE = join(folder, 'switchyard');
