// How native code is compiled and linked for this machine, or for what $CXX, $CXXFLAGS and $LDFLAGS say.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { BuildError, buildFolder } from './build.mjs';

function splitFlags(text) {
  return (text ?? '').split(/\s+/).filter(Boolean);
}

/** What $CXXFLAGS adds to compile with. */
export const compilerFlags = () => splitFlags(process.env.CXXFLAGS);

/** What $LDFLAGS adds to link with. */
export const linkerFlags = () => splitFlags(process.env.LDFLAGS);

/**
 * The command that compiles: $CXX, or the first of c++, g++ and clang++ that works.
 *
 * @throws {BuildError}
 */
export function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const candidate of candidates) {
    const [command, ...args] = splitFlags(candidate);
    if (spawnSync(command, [...args, '--version'], { stdio: 'ignore' }).status === 0)
      return [command, ...args];
  }
  const remedy =
    process.platform === 'darwin'
      ? 'install it with: xcode-select --install'
      : 'install one, for example: apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora)';
  throw new BuildError(
    `Switchyard needs a C++20 compiler; tried ${candidates.join(', ')} without success: ${remedy}.`,
  );
}

/** The addon that `npm run build` makes, in kernels/build. */
export function localRecipe() {
  const platform = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-ldl'];
  const linkFlags = ['-shared', '-pthread', ...platform, ...linkerFlags()];
  return {
    target: join(buildFolder, 'switchyard.node'),
    compiler: findCompiler,
    compilerName: process.env.CXX ?? '',
    system: 'posix',
    flags: ['-fPIC', '-fvisibility=hidden', ...compilerFlags()],
    link: (compiler, objects, output) => [...compiler, ...objects, '-o', output, ...linkFlags],
  };
}
