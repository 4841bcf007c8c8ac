// Modules of src/ that scripts use beside what the package offers, for them in dist-scripts/.
import { join } from 'node:path';
import { bundleModules, root } from './bundle.mjs';

export const INNER_MODULES = [
  'auto/load-config',
  'bench/work',
  'hub/repo/resolve-repo',
  'index',
  'quantize/scheme',
  'runtime/device',
  'runtime/machine',
  'runtime/threads',
  'safetensors/checkpoint',
];

/** To be called before a script, or a process of it, imports one. */
export const bundleInnerModules = () => bundleModules(INNER_MODULES, join(root, 'dist-scripts'));
