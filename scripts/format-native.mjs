// Checks the format of the C++ and CUDA sources with clang-format; with --write, formats them.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const folders = ['kernels', 'test/kernels'];
const skipped = new Set([join(root, 'kernels', 'build')]);

function findSources(folder) {
  if (!existsSync(folder) || skipped.has(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return findSources(path);
    return /\.(h|inc|cc|cu|cuh)$/.test(entry.name) ? [path] : [];
  });
}

/** The binary itself: the package's own launcher formats one file a process. */
function clangFormat() {
  const require = createRequire(import.meta.url);
  const bin = join(dirname(require.resolve('clang-format/package.json')), 'bin');
  const platform = process.platform === 'darwin' ? 'darwin_x64' : `${process.platform}_${process.arch}`;
  return join(bin, platform, 'clang-format');
}

const binary = clangFormat();
const sources = folders.flatMap((folder) => findSources(join(root, folder)));
if (!existsSync(binary)) {
  console.error(
    `clang-format has no binary for ${process.platform} ${process.arch}; skipped ${sources.length} files`,
  );
} else {
  const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '--Werror'];
  process.exitCode = spawnSync(binary, [...mode, ...sources], { stdio: 'inherit', cwd: root }).status ?? 1;
}
