import { execFile } from 'node:child_process';
import { cp, readdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What each example prints. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  'abort.mjs': /^Generation was aborted after 7 new tokens: In the beginning\b.+\n$/s,
  'backend.mjs': /^ \w.+\n\{"":"dense"\}\n$/s,
  'chat.mjs': /^> Speak of Moses\.\n\w.+\n> And of David\?\n\w.+\n4 messages\n$/s,
  'experts.mjs': /^batched_mm:( +\w.+)\neager:\1\ngrouped_mm:\1\n$/,
  'generate.mjs': /^\W*\w.+\n$/s,
  'logits.mjs': /^(-?\d+\.\d\d ".+"\n){5}$/,
  'tokens.mjs': /^In the beginning\b.+\nAnd it came to pass\b.+\n32 new tokens\n$/s,
  'worker.mjs': /^\W*\w.+\n$/s,
};

/** The package as examples see it: compiled, with the demo model. */
let compiled: CompiledSources;
let folder: string;
beforeAll(async () => {
  compiled = await compileSources('index.ts');
  folder = join(dirname(compiled.folder), 'examples');
  await symlink(join(root, 'configs'), join(dirname(compiled.folder), 'configs'));
  await cp(join(root, 'scripts/examples'), folder, { recursive: true });
});
afterAll(() => compiled?.remove());

test('every example is run', async () => {
  expect((await readdir(folder)).sort()).toEqual(Object.keys(EXPECTED));
});

test.each(Object.entries(EXPECTED))('%s', async (name, output) => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(folder, name)]);
  expect(stdout).toMatch(output);
  expect(stderr).toBe('');
});
