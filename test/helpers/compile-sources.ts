import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');

export interface CompiledSources {
  /** Holds what `src` holds, as `.js`. */
  folder: string;
  remove: () => Promise<void>;
}

/**
 * Compiles folders or files of `src` and what they import to JavaScript, for tests that need processes or threads of their own. The
 * copy lies inside the project, where packages and the addon are found as from dist/, and out of the tools' sight.
 */
export async function compileSources(...wanted: string[]): Promise<CompiledSources> {
  const cache = join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const copy = await mkdtemp(join(cache, 'switchyard-sources-'));
  const remove = () => rm(copy, { recursive: true, force: true });
  try {
    await symlink(join(root, 'kernels'), join(copy, 'kernels'));
    const config = {
      extends: join(root, 'tsconfig.json'),
      // Their types are checked elsewhere, once.
      compilerOptions: {
        noEmit: false,
        noCheck: true,
        rootDir: join(root, 'src'),
        outDir: join(copy, 'dist'),
      },
      include: wanted.map((path) => join(root, 'src', path)),
    };
    await writeFile(join(copy, 'tsconfig.json'), JSON.stringify(config));
    await writeFile(
      join(copy, 'package.json'),
      '{ "name": "moe-switchyard", "type": "module", "version": "0.0.0", "exports": "./dist/index.js" }',
    );
    await promisify(execFile)(process.execPath, [tsc, '-p', join(copy, 'tsconfig.json')]);
  } catch (error) {
    await remove();
    const { stdout } = error as { stdout?: string };
    throw stdout ? new Error(`src/${wanted.join(', ')} does not compile:\n${stdout}`) : error;
  }
  return { folder: join(copy, 'dist'), remove };
}
