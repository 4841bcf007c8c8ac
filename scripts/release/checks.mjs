#!/usr/bin/env node
// Checks of native files that are to run elsewhere:
//
//   node scripts/release/checks.mjs DIR      of DIR/<platform>-<arch>/*
//
// How old a glibc may be, which libraries must be there, and what leaves the file.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The glibc that Node's own binaries and ONNX Runtime's library ask for. */
const NEWEST_GLIBC = [2, 28];
/** libgcc_s comes with Node's own libstdc++. */
const LINUX_LIBRARIES = /^(lib(m|dl|rt|pthread|c|gcc_s)\.so\.\d|ld-linux-.*\.so\.\d)$/;
const WINDOWS_LIBRARIES = /^(KERNEL32\.dll|msvcrt\.dll|node\.exe)$/;
const ADDON_EXPORTS = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];

/** What a file may weigh; a multiple means that something came in that does not belong there. */
const MOST_BYTES = { 'switchyard.node': 2.5e6, 'libswitchyard_cuda.so': 16e6 };
const EXPORTS = {
  'switchyard.node': ADDON_EXPORTS,
  'libswitchyard_cuda.so': ['switchyard_open_device_library'],
};

const read = (program, ...args) =>
  execFileSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 });

function isNewer(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > NEWEST_GLIBC[0] || (major === NEWEST_GLIBC[0] && minor > NEWEST_GLIBC[1]);
}

/** Dynamic symbols of an ELF file. */
function elfSymbols(path) {
  return read('readelf', '--wide', '--dyn-syms', path)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([number, , , , bind, , , name]) => /^\d+:$/.test(number) && bind !== 'LOCAL' && name)
    .map(([, , , , bind, , section, symbol]) => {
      const [name, version] = symbol.split(/@+/);
      return { name, version, isWeak: bind === 'WEAK', isUndefined: section === 'UND' };
    });
}

function elfFaults(path, exported) {
  const faults = [];
  const symbols = elfSymbols(path);
  const wanted = symbols.filter(({ isUndefined }) => isUndefined);
  for (const { name, version } of wanted) {
    const [, library, number] = version?.match(/^(GLIBC|GLIBCXX|CXXABI)_([\d.]+)$/) ?? [];
    if (library === 'GLIBC' && isNewer(number)) faults.push(`${name} needs glibc ${number}`);
    if (library === 'GLIBCXX' || library === 'CXXABI')
      faults.push(`${name} comes from this machine's libstdc++`);
  }
  // Node itself has the functions of its API; everything else belongs to a library, and thereby to a version of it.
  const homeless = wanted.filter(
    ({ name, version, isWeak }) => !version && !isWeak && !/^(napi_|node_api_)/.test(name),
  );
  faults.push(...homeless.map(({ name }) => `nobody has ${name}`));
  const left = symbols.filter(({ isUndefined }) => !isUndefined).map(({ name }) => name);
  if (String(left.sort()) !== String([...exported].sort())) faults.push(`exports ${left.join(', ')}`);
  const dynamic = read('readelf', '--wide', '--dynamic', path);
  for (const [, name] of dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g))
    if (!LINUX_LIBRARIES.test(name)) faults.push(`needs ${name}`);
  for (const [, kind, where] of dynamic.matchAll(/\((R(?:UN)?PATH)\).*\[(.+)\]/g))
    faults.push(`has ${kind} ${where}`);
  if (/\.(symtab|debug_info)\b/.test(read('readelf', '--wide', '--sections', path)))
    faults.push('is not stripped');
  return faults;
}

function peFaults(path, exported) {
  const faults = [];
  const headers = read('llvm-objdump-19', '--private-headers', path);
  for (const [, name] of headers.matchAll(/DLL Name: (\S+)/g))
    if (name !== 'switchyard.node' && !WINDOWS_LIBRARIES.test(name)) faults.push(`needs ${name}`);
  const table = headers.slice(headers.indexOf('Export Table:'));
  const left = [...table.matchAll(/^ +\d+ +0x[0-9a-f]+ +(\S+)/gm)].map(([, name]) => name);
  if (String(left.sort()) !== String([...exported].sort()))
    faults.push(`exports ${left.join(', ') || 'nothing'}`);
  return faults;
}

/** Everything that is wrong with a file, one sentence each. */
export function faultsOf(path, name) {
  const isElf = readFileSync(path).subarray(0, 4).toString('latin1') === '\x7fELF';
  const faults = isElf ? elfFaults(path, EXPORTS[name]) : peFaults(path, EXPORTS[name]);
  const { size } = statSync(path);
  if (size > MOST_BYTES[name]) faults.push(`has ${size} bytes, more than ${MOST_BYTES[name]}`);
  // A path of the machine that built it says that the build depends on that machine.
  if (readFileSync(path).includes(process.cwd())) faults.push(`holds the path ${process.cwd()}`);
  return faults;
}

/** Checks all native files under a folder and prints a line each. @returns whether all of them are sound */
export function checkNativeFiles(folder) {
  let sound = true;
  const platforms = readdirSync(folder).sort();
  for (const platform of platforms)
    for (const name of readdirSync(join(folder, platform)).filter((name) => name in EXPORTS)) {
      const path = join(folder, platform, name);
      const faults = faultsOf(path, name);
      const size = (statSync(path).size / 1e6).toFixed(2);
      console.log(
        `${faults.length === 0 ? 'ok   ' : 'FAULT'} ${platform}/${name}, ${size} MB ${faults.join('; ')}`.trimEnd(),
      );
      sound &&= faults.length === 0;
    }
  return sound;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder] = process.argv.slice(2);
  if (!folder || !existsSync(folder)) {
    console.error('usage: node scripts/release/checks.mjs DIR');
    process.exit(2);
  }
  process.exitCode = checkNativeFiles(folder) ? 0 : 1;
}
