import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { rolldown } from 'rolldown';
import { afterEach, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string | undefined;
afterEach(() => folder && rm(folder, { recursive: true, force: true }));

test('a program that a bundler has made CommonJS of, with the package in it, finds the files of the package', async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-test-'));
  await mkdir(join(folder, 'node_modules'));
  await symlink(root, join(folder, 'node_modules', 'moe-switchyard'), 'junction');
  const bundle = await rolldown({
    input: join(root, 'src/runtime/package-root.ts'),
    platform: 'node',
    // As esbuild leaves it.
    transform: { define: { 'import.meta.url': 'undefined' } },
  });
  await bundle.write({ file: join(folder, 'app.cjs'), format: 'cjs' });
  await bundle.close();
  const { stdout } = await promisify(execFile)(process.execPath, [
    '-p',
    `require(${JSON.stringify(join(folder, 'app.cjs'))}).packageRoot()`,
  ]);
  expect(join(stdout.trim(), '/')).toBe(join(root, '/'));
});
