/** Compiles src/runtime to JavaScript, for tests that need processes or threads of their own. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

export interface CompiledRuntime {
  /** Folder that holds the modules of src/runtime, as `.js`. */
  folder: string;
  remove: () => void;
}

/** The copy lies inside the project, where packages and the addon are found as from dist/, and out of the tools' sight. */
export function compileRuntime(): CompiledRuntime {
  const cache = join(root, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const copy = mkdtempSync(join(cache, 'switchyard-runtime-'));
  symlinkSync(join(root, 'kernels'), join(copy, 'kernels'));
  writeFileSync(
    join(copy, 'tsconfig.json'),
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        noEmit: false,
        rootDir: join(root, 'src'),
        outDir: join(copy, 'dist'),
      },
      include: [join(root, 'src', 'runtime')],
    }),
  );
  writeFileSync(join(copy, 'package.json'), '{ "type": "module" }');
  const manifest = createRequire(import.meta.url).resolve('typescript/package.json');
  const tsc = join(dirname(manifest), 'bin', 'tsc');
  execFileSync(process.execPath, [tsc, '-p', join(copy, 'tsconfig.json')], { stdio: 'inherit' });
  return {
    folder: join(copy, 'dist', 'runtime'),
    remove: () => rmSync(copy, { recursive: true, force: true }),
  };
}
