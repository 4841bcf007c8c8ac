// The machines that releases are made for: with what their addon is compiled, and how it is linked. All of it is to be had from Debian 12:
//
//   apt install g++ g++-aarch64-linux-gnu g++-mingw-w64-x86-64-posix clang-19 lld-19 llvm-19
//
// The version of a symbol is bound when a file is linked. So the addon for Linux is compiled as everywhere else, and linked against the
// glibc of an older Debian, with libstdc++ inside. `checks.mjs` holds what that is for.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BuildError, buildFolder, root } from '../native/build.mjs';
import { unpackPackages } from './debian.mjs';

/** What Node looks for in an addon; nothing else may leave the file, above all no part of the libstdc++ inside it. */
export const EXPORTED = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];

const work = join(buildFolder, 'release');

/** Names of this machine's folders, which `__FILE__` and debug notes would carry away. */
const anonymous = [`-ffile-prefix-map=${root}=.`];

export const glibcShim = fileURLToPath(new URL('glibc-shim.cc', import.meta.url));

const targets = {
  'linux-x64': linux('amd64', ['g++']),
  'linux-arm64': linux('arm64', ['aarch64-linux-gnu-g++']),
  // Not g++: it cannot align the stack for AVX on Windows (GCC bug 54412), and code that spills crashes at random.
  'win32-x64': windows(['clang++-19', '--target=x86_64-w64-mingw32', '--sysroot=/usr']),
};

export const targetNames = Object.keys(targets);

/** What `buildAddon` is to do for `<out>/<name>/switchyard.node`. */
export function targetRecipe(name, out) {
  const { command, ...recipe } = targets[name];
  return {
    ...recipe,
    target: join(out, name, 'switchyard.node'),
    compiler: () => findCompiler(name, command),
    compilerName: command.join(' '),
  };
}

function findCompiler(name, command) {
  const [program, ...args] = command;
  if (spawnSync(program, [...args, '--version'], { stdio: 'ignore' }).status === 0) return command;
  throw new BuildError(
    `${program}, which compiles for ${name}, is not installed; see scripts/release/targets.mjs.`,
  );
}

const triples = { amd64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** Flags that link against the glibc of Debian 11, 2.31: the oldest that its archive has. No newer symbol than 2.28's is in use. */
export function oldGlibc(arch) {
  const wanted = { release: 'bullseye', arch, packages: ['libc6', 'libc6-dev'] };
  const sysroot = unpackPackages(join(work, `sysroot-${arch}`), wanted);
  const libraries = join(sysroot, 'usr/lib', triples[arch]);
  // The folders of a compiler's own come before those of the system, and hold a newer glibc.
  return [
    `--sysroot=${sysroot}`,
    `-B${libraries}`,
    `-L${libraries}`,
    `-L${join(sysroot, 'lib', triples[arch])}`,
  ];
}

/** A linker script that lets nothing but `names` out of a file. */
export function versionScript(names) {
  const file = join(work, `${names[0]}.map`);
  mkdirSync(work, { recursive: true });
  writeFileSync(file, `{ global: ${names.join('; ')}; local: *; };\n`);
  return `-Wl,--version-script=${file}`;
}

function linux(arch, command) {
  return {
    command,
    system: 'posix',
    flags: ['-fPIC', '-fvisibility=hidden', '-g0', ...anonymous],
    sources: [glibcShim],
    link: (compiler, objects, output) => [
      ...compiler,
      '-shared',
      '-pthread',
      ...oldGlibc(arch),
      '-static-libstdc++',
      // Its static form asks for glibc 2.35.
      '-shared-libgcc',
      ...objects,
      '-ldl',
      versionScript(EXPORTED),
      '-Wl,--gc-sections',
      '-Wl,--as-needed',
      '-Wl,--strip-all',
      '-o',
      output,
    ],
  };
}

function windows(command) {
  return {
    command,
    system: 'windows',
    // Windows 10, the oldest that Node supports. GCC's libstdc++ uses what it calls deprecated itself.
    flags: [
      '-D_WIN32_WINNT=0x0A00',
      '-fvisibility=hidden',
      '-Wno-deprecated-declarations',
      '-g0',
      ...anonymous,
    ],
    link: (compiler, objects, output) => [
      ...compiler,
      '-fuse-ld=lld',
      '-shared',
      '-static',
      '-pthread',
      ...objects,
      nodeImportLibrary(),
      '-lwinpthread',
      // What is marked for export leaves the file, and nothing else.
      '-Wl,--exclude-all-symbols',
      '-Wl,--strip-all',
      '-o',
      output,
    ],
  };
}

/** The functions of node.exe that an addon may call, for the linker. */
function nodeImportLibrary() {
  const require = createRequire(import.meta.url);
  const folder = join(dirname(require.resolve('node-api-headers/package.json')), 'def');
  const names = ['js_native_api.def', 'node_api.def'].flatMap((name) =>
    readFileSync(join(folder, name), 'utf8')
      .split(/\r?\n/)
      .filter((line) => line !== '' && !/^(NAME|LIBRARY|EXPORTS)\b/.test(line)),
  );
  mkdirSync(work, { recursive: true });
  const definition = join(work, 'node.def');
  const library = join(work, 'node.lib');
  writeFileSync(definition, `LIBRARY node.exe\nEXPORTS\n${names.join('\n')}\n`);
  execFileSync('llvm-dlltool-19', ['-m', 'i386:x86-64', '-d', definition, '-l', library]);
  return library;
}
