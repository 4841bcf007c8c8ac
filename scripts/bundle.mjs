// Makes dist/ of src/: the library and the command line, which share their code, in as few files as possible, because looking for files is
// most of what a start costs. Packages stay outside. Source maps hold the sources. Types are made by tsc.
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');

/** What package.json offers: `./dist/X.js` is made of `src/X.ts`. */
const { exports, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const offered = [...Object.values(exports).map((entry) => entry.default), ...Object.values(bin)];
const names = offered.flatMap((path) => path?.match(/^(?:\.\/)?dist\/(.+)\.js$/)?.[1] ?? []);
const entries = Object.fromEntries(names.map((name) => [name, `src/${name}.ts`]));

/** Neither an entry, nor relative, nor resolved. */
const isPackage = (id) => !id.startsWith('.') && !isAbsolute(id) && !id.startsWith('src/');

rmSync(dist, { recursive: true, force: true });
const bundle = await rolldown({
  cwd: root,
  input: entries,
  platform: 'node',
  external: isPackage,
});
await bundle.write({
  dir: dist,
  format: 'esm',
  sourcemap: true,
  chunkFileNames: 'chunks/[name]-[hash].js',
});
await bundle.close();
chmodSync(join(dist, 'cli', 'main.js'), 0o755);
