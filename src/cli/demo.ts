import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Folder of the bundled demo checkpoint. It lies beside `dist` in an installed package and beside `src` in the
 * repository, so the nearest folder above this file that has it is the package.
 */
export function demoModel(): string {
  for (
    let folder = dirname(fileURLToPath(import.meta.url));
    folder !== dirname(folder);
    folder = dirname(folder)
  ) {
    const candidate = join(folder, 'configs', 'demo-model');
    if (existsSync(join(candidate, 'config.json'))) return candidate;
  }
  throw new Error('The bundled demo model is missing from this installation. Name a model with --model.');
}
