import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Compiles src/hub for processes of their own. Resolves to the path of resolve-repo.js and a function that cleans up. */
export async function compileHub(): Promise<{ module: string; remove: () => Promise<void> }> {
  // Inside the project, so that its packages are found.
  await mkdir(join(root, '.cache'), { recursive: true });
  const folder = await mkdtemp(join(root, '.cache/hub-'));
  const config = join(folder, 'tsconfig.json');
  const compilerOptions = { noEmit: false, rootDir: join(root, 'src'), outDir: join(folder, 'js') };
  const files = [join(root, 'src/hub/repo/resolve-repo.ts')];
  await writeFile(
    config,
    JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, files, include: [] }),
  );
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  const compiler = createRequire(import.meta.url)
    .resolve('typescript/package.json')
    .replace('package.json', 'bin/tsc');
  await promisify(execFile)(process.execPath, [compiler, '-p', config]);
  return {
    module: join(folder, 'js/hub/repo/resolve-repo.js'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
