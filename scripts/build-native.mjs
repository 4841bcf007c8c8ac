// Compiles the addon. Plain Node, because it also runs where nothing is built yet.
//
//   node scripts/build-native.mjs                               kernels/build/switchyard.node, for this machine
//   node scripts/build-native.mjs --target linux-arm64 --out DIR  DIR/linux-arm64/switchyard.node, for others' machines
//
// For this machine it needs a C++20 compiler: $CXX, or the first of c++, g++ and clang++ that works; $CXXFLAGS and $LDFLAGS add flags.
// The targets of releases are in release/targets.mjs, with what they need; that folder is not in the package.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BuildError, buildAddon, root } from './native/build.mjs';
import { localRecipe } from './native/local.mjs';

function checkPlatform() {
  if (process.platform === 'linux' || process.platform === 'darwin') return;
  const windows = 'The package brings that of Windows, which Linux compiles with --target win32-x64';
  throw new BuildError(
    `Switchyard's addon is compiled on Linux and macOS, not on ${process.platform}. ${process.platform === 'win32' ? windows : 'There is none'}.`,
  );
}

function hereRecipe() {
  checkPlatform();
  return localRecipe();
}

async function releaseRecipe(name, out) {
  const file = new URL('release/targets.mjs', import.meta.url);
  if (!existsSync(file))
    throw new BuildError('--target is for releases, which are made in a clone of the repository.');
  const { targetNames, targetRecipe } = await import(file.href);
  if (!targetNames.includes(name))
    throw new BuildError(`--target is ${JSON.stringify(name)}; expected one of ${targetNames.join(', ')}.`);
  return targetRecipe(name, resolve(out ?? join(root, 'prebuilds')));
}

try {
  const { values } = parseArgs({ options: { target: { type: 'string' }, out: { type: 'string' } } });
  if (values.out !== undefined && values.target === undefined)
    throw new BuildError('--out goes with --target.');
  await buildAddon(
    values.target === undefined ? hereRecipe() : await releaseRecipe(values.target, values.out),
  );
} catch (error) {
  if (!(error instanceof BuildError) && !error.code?.startsWith('ERR_PARSE_ARGS')) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
