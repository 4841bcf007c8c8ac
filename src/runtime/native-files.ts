/**
 * The package's native files: those compiled here, in `kernels/build`, else those it came with, in `prebuilds/<platform>-<arch>`; and
 * what to do where there is none, or none that loads.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Libc, libc } from './libc.ts';
import { packageRoot } from './package-root.ts';

export const ADDON = 'switchyard.node';
export const CUDA_LIBRARY = 'libswitchyard_cuda.so';
/** The commands that compile them. */
const BUILD = 'npx moe-switchyard build';
export const BUILD_CUDA = `${BUILD} --cuda`;

export interface NativeFile {
  /** Of a file that is missing: where compiling would put it. */
  readonly path: string;
  readonly origin: 'compiled' | 'prebuilt' | 'missing';
}

export interface Platform {
  /** As Node names them: `linux`, `arm64`. */
  readonly platform: string;
  readonly arch: string;
  /** Undefined off Linux. */
  readonly libc: Libc | undefined;
}

/** Platforms that ONNX Runtime has a library for, and whether the package brings an addon. */
const PLATFORMS: Readonly<Record<string, { readonly prebuilt: boolean }>> = {
  'linux-x64': { prebuilt: true },
  'linux-arm64': { prebuilt: true },
  'win32-x64': { prebuilt: true },
  'darwin-arm64': { prebuilt: false },
};

/** What ONNX Runtime's library and the prebuilt files ask for. */
const OLDEST_GLIBC = '2.28';

export function thisPlatform(): Platform {
  return { platform: process.platform, arch: process.arch, libc: libc() };
}

/**
 * @param name of a file, such as {@link ADDON}
 * @param root folder of the package
 */
export function findNativeFile(name: string, root: string = packageRoot()): NativeFile {
  const compiled = join(root, 'kernels', 'build', name);
  if (existsSync(compiled)) return { path: compiled, origin: 'compiled' };
  const prebuilt = join(root, 'prebuilds', `${process.platform}-${process.arch}`, name);
  if (existsSync(prebuilt)) return { path: prebuilt, origin: 'prebuilt' };
  return { path: compiled, origin: 'missing' };
}

/** Why there is no engine for a platform; undefined where there is one. */
export function unsupportedPlatform(platform: string, arch: string): string | undefined {
  if (`${platform}-${arch}` in PLATFORMS) return undefined;
  return `Switchyard's engine runs on ${Object.keys(PLATFORMS).join(', ')}, not on ${platform}-${arch}`;
}

/** Why no compiling helps on a system; undefined where models can run. */
export function platformFault({ platform, arch, libc }: Platform): string | undefined {
  if (libc?.name === 'musl')
    return (
      'Switchyard cannot run on musl, the C library of Alpine Linux: there is no ONNX Runtime for it. ' +
      'Use a system with glibc; of containers, for example the image node:22-bookworm-slim'
    );
  if (libc?.version !== undefined && isOlder(libc.version, OLDEST_GLIBC))
    return (
      `Switchyard cannot run on glibc ${libc.version}: ONNX Runtime needs ${OLDEST_GLIBC} or newer. ` +
      'Use a newer system: Debian 10, Ubuntu 20.04 and Red Hat 8 have it'
    );
  return unsupportedPlatform(platform, arch);
}

/** What to say where there is no addon. */
export function missingAddon(root: string, on: Platform = thisPlatform()): string {
  const fault = platformFault(on);
  if (fault !== undefined) return fault;
  const name = `${on.platform}-${on.arch}`;
  if (isClone(root))
    return `the native engine is not built: there is no ${join(root, 'kernels', 'build', ADDON)}. ${compileStep(root, on)}`;
  if (!PLATFORMS[name]?.prebuilt)
    return `the native engine is not built: for ${name} the package brings none so far. ${compileStep(root, on)}`;
  const path = join(root, 'prebuilds', name, ADDON);
  const compile = canCompile(on) ? ` Or: ${compileStep(root, on)}` : '';
  return `the package is incomplete: there is no ${path}. Install moe-switchyard again.${compile}`;
}

/** What to say where an addon does not load. */
export function unloadableAddon(
  { path, origin }: NativeFile,
  root: string,
  cause: Error,
  on: Platform = thisPlatform(),
): string {
  const fault = platformFault(on);
  if (fault !== undefined) return fault;
  const remedy = canCompile(on) || isClone(root) ? compileStep(root, on) : 'Install moe-switchyard again';
  const what = origin === 'prebuilt' ? 'prebuilt native engine' : 'native engine';
  const place = `${on.platform} ${on.arch}${on.libc ? `, ${on.libc.name} ${on.libc.version}` : ''}, Node ${process.version}`;
  return `the ${what} ${path} does not load on ${place}: ${cause.message}. ${remedy}`;
}

/** Windows has no compiler that one may count on: its addon is compiled on Linux. */
function canCompile({ platform }: Platform): boolean {
  return platform !== 'win32';
}

/** How to compile the addon in the package at hand. */
function compileStep(root: string, { platform, arch }: Platform): string {
  if (platform === 'win32')
    return `Compile it on Linux with: node scripts/build-native.mjs --target ${platform}-${arch} --out prebuilds`;
  const source = platform === 'darwin' ? '; xcode-select --install brings one' : '';
  const command = isClone(root) ? 'npm run build:native' : BUILD;
  return `Compile it (a C++20 compiler is needed${source}) with: ${command}`;
}

/** Sources of TypeScript are in the repository only. */
function isClone(root: string): boolean {
  return existsSync(join(root, 'src', 'index.ts'));
}

function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = than.split('.').map(Number);
  return major < oldestMajor || (major === oldestMajor && minor < oldestMinor);
}
