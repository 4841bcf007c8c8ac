import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Packed, pack } from './helpers/pack.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

let folder: string;
let packed: Packed;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-package-'));
  packed = await pack(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('the lock file keeps npm from running the installer of onnxruntime-node, which would download CUDA libraries', async () => {
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'));
  // npm looks for scripts only where the lock file says that there are some. When an update of the package brings the entry back,
  // take it out again.
  expect(lock.packages['node_modules/onnxruntime-node']).toMatchObject({ version: expect.any(String) });
  expect(lock.packages['node_modules/onnxruntime-node']).not.toHaveProperty('hasInstallScript');
});

describe('the tarball', () => {
  const paths = () => packed.files.map((file) => file.path);

  test('has what an installation needs', () => {
    expect(paths()).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'configs/demo-model/config.json',
        'configs/demo-model/model.safetensors',
        'configs/demo-model/tokenizer.json',
        'dist/cli/main.js',
        'dist/index.d.ts',
        'dist/index.js',
        'scripts/build-native.mjs',
        'src/server/page/index.html',
        'src/server/page/main.js',
        'src/server/page/page.css',
      ]),
    );
  });

  test('has every native source, for the compiler of whoever installs it', async () => {
    const sources = (await readdir(join(root, 'kernels'), { recursive: true }))
      .filter((path) => /^(?!build\/|test\/).*\.(cc|h|cu|cuh)$/.test(path))
      .map((path) => `kernels/${path}`);
    expect(sources.length).toBeGreaterThan(10);
    expect(paths()).toEqual(expect.arrayContaining(sources));
  });

  test('has nothing else', () => {
    const expected =
      /^(LICENSE|README\.md|ARCHITECTURE\.md|package\.json|scripts\/(build-cuda|build-native|cuda-sources|native\/(build|local))\.mjs)$|^(dist|kernels|prebuilds|configs\/demo-model|src\/server\/page)\//;
    expect(paths().filter((path) => !expected.test(path))).toEqual([]);
    expect(paths().filter((path) => /^kernels\/(build|test)\/|\.test\./.test(path))).toEqual([]);
  });

  test('has types for each module', async () => {
    const modules = (await readdir(join(root, 'src'), { recursive: true })).filter((path) =>
      path.endsWith('.ts'),
    );
    const expected = modules.map((path) => `dist/${path.replace(/\.ts$/, '.d.ts')}`);
    expect(paths()).toEqual(expect.arrayContaining(expected));
  });

  test('has source maps that hold the sources, which it does not have otherwise', async () => {
    const maps = paths().filter((path) => path.endsWith('.map'));
    expect(maps.length).toBeGreaterThan(1);
    for (const path of maps) {
      const { sources, sourcesContent } = JSON.parse(await readFile(join(root, path), 'utf8'));
      expect(sourcesContent, path).toHaveLength(sources.length);
    }
    for (const path of paths().filter((path) => path.endsWith('.js'))) {
      const named = (await readFile(join(root, path), 'utf8')).includes('//# sourceMappingURL=');
      expect(maps.includes(`${path}.map`), path).toBe(named);
    }
  });
});
