import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { withLock } from '../../src/hub/cache/lock.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Packed {
  /** Name of the tarball. */
  readonly filename: string;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

/** Makes `dist` anew and leaves what `npm pack` makes of the repository in `folder`; one at a time, because there is one `dist`. */
export function pack(folder: string): Promise<Packed> {
  const npm = (...args: string[]) => promisify(execFile)('npm', args, { cwd: root });
  return withLock(join(root, 'node_modules/.cache/switchyard-pack.lock'), undefined, async () => {
    await rm(join(root, 'dist'), { recursive: true, force: true });
    await npm('run', 'build:ts');
    // Scripts are off because `prepare` would compile everything again.
    const { stdout } = await npm('pack', '--ignore-scripts', '--json', '--pack-destination', folder);
    // npm 12 names the package where others have a list.
    return Object.values(JSON.parse(stdout))[0] as Packed;
  });
}
