import { join } from 'node:path';
import { packageRoot } from '../runtime/package-root.ts';

/** Folder of the bundled demo checkpoint. */
export function demoModel(): string {
  return join(packageRoot(), 'configs', 'demo-model');
}
