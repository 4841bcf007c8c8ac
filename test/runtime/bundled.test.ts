import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { rolldown } from 'rolldown';
import { afterEach, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string | undefined;
afterEach(() => folder && rm(folder, { recursive: true, force: true }));

test.each([
  ['no package.json', undefined],
  ['one that is no JSON', '{"name": '],
  ['one that is null', 'null'],
])(
  'a program that a bundler has made CommonJS of, with the package in it, finds the files of the package: %s above it',
  async (_, text) => {
    folder = await mkdtemp(join(tmpdir(), 'switchyard-test-'));
    await mkdir(join(folder, 'node_modules'));
    await symlink(root, join(folder, 'node_modules', 'moe-switchyard'), 'junction');
    // Of a sound one Node asks no further.
    const program = join(folder, 'program');
    await mkdir(program);
    await writeFile(join(program, 'package.json'), '{}');
    if (text !== undefined) await writeFile(join(folder, 'package.json'), text);
    const bundle = await rolldown({
      input: join(root, 'src/runtime/package-root.ts'),
      platform: 'node',
      // As esbuild leaves it.
      transform: { define: { 'import.meta.url': 'undefined' } },
    });
    await bundle.write({ file: join(program, 'app.cjs'), format: 'cjs' });
    await bundle.close();
    const { stdout } = await promisify(execFile)(process.execPath, [
      '-p',
      `require(${JSON.stringify(join(program, 'app.cjs'))}).packageRoot()`,
    ]);
    expect(join(stdout.trim(), '/')).toBe(join(root, '/'));
  },
);
