// Makes JavaScript of src/: modules that share their code, in as few files as possible. Packages stay outside. Source maps hold the sources.
import { rmSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Neither an entry, nor relative, nor resolved. */
const isPackage = (id) => !id.startsWith('.') && !isAbsolute(id) && !id.startsWith('src/');

/** Makes `<folder>/X.js` of `src/X.ts` for each of `names`; nothing else stays in the folder. */
export async function bundleModules(names, folder) {
  rmSync(folder, { recursive: true, force: true });
  const bundle = await rolldown({
    cwd: root,
    input: Object.fromEntries(names.map((name) => [name, `src/${name}.ts`])),
    platform: 'node',
    external: isPackage,
  });
  await bundle.write({
    dir: folder,
    format: 'esm',
    sourcemap: true,
    chunkFileNames: 'chunks/[name]-[hash].js',
  });
  await bundle.close();
}
