// The sources of the CUDA library, for whatever compiles it: nvcc, or the emulation of tests.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const kernels = fileURLToPath(new URL('../kernels', import.meta.url));

/** The kernels alone, in folders by subject; those for either GEMM library. */
export const kernelSources = foldersIn(join(kernels, 'cuda'))
  .filter((folder) => !folder.endsWith('bench'))
  .flatMap(sourcesIn);

/** The device that the library implements, with its ops. */
export const deviceSources = ['devices/cuda', 'devices/cuda/ops'].flatMap((folder) =>
  sourcesIn(join(kernels, folder)),
);

/** What it shares with the addon, which compiles the same files: what ops say of themselves, but not how the CPU does them. */
export const sharedSources = ['ops', 'ort', 'platform/posix', 'weights']
  .flatMap((folder) => sourcesIn(join(kernels, folder)))
  .filter((path) => !/_cpu\.cc$|ort\/library\.cc$|posix\/(library_file|process)\.cc$/.test(path));

function foldersIn(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(folder, entry.name))
    .sort();
}

function sourcesIn(folder) {
  return readdirSync(folder)
    .filter((name) => /\.(cu|cc)$/.test(name))
    .sort()
    .map((name) => join(folder, name));
}
