/** This package's own folder and version. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { EngineError } from '../errors.ts';

const NAME = 'moe-switchyard';

/** Address of this file. A bundler that makes CommonJS of it takes away `import.meta.url`, and brings `__filename`. */
export const moduleUrl: string = (import.meta.url as string | undefined) ?? pathToFileURL(__filename).href;

let root: string | undefined;

/**
 * Folder of this package: the nearest above this file, be it in `src` or in `dist`; where a bundler has put this file into a program,
 * the package as that program finds it.
 *
 * @throws EngineError when there is neither
 */
export function packageRoot(): string {
  root ??= folderAbove() ?? installedFolder();
  return root;
}

export function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string })
    .version;
}

function folderAbove(): string | undefined {
  let folder = dirname(fileURLToPath(moduleUrl));
  while (!isPackage(folder)) {
    const parent = dirname(folder);
    if (parent === folder) return undefined;
    folder = parent;
  }
  return folder;
}

function isPackage(folder: string): boolean {
  try {
    const text = readFileSync(join(folder, 'package.json'), 'utf8');
    return (JSON.parse(text) as { name?: unknown } | null)?.name === NAME;
  } catch {
    // None, or one of somebody else's that is broken: ours is further up.
    return false;
  }
}

function installedFolder(): string {
  try {
    return dirname(createRequire(moduleUrl).resolve(`${NAME}/package.json`));
  } catch (cause) {
    throw new EngineError(
      `the files of ${NAME} are not beside its code, ${fileURLToPath(moduleUrl)}. If a bundler has put it there, tell the bundler ` +
        `to leave ${NAME} out (esbuild: --external:${NAME}; Next.js: serverExternalPackages) and install it beside the program`,
      { cause },
    );
  }
}
