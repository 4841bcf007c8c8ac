#!/usr/bin/env node
// Builds the CUDA library kernels/build/libswitchyard_cuda.so with nvcc, and with --bench the bench program
// kernels/build/cuda/bench.
//
//   node scripts/build-cuda.mjs [--arch 80,90a] [--bench] [--if-available] [--nvcc FILE] [--release DIR]
//
// --arch          compute capabilities to build machine code for (default 80,90a: all of 8.x, and 9.0); the first also as PTX, which
//                 the driver compiles for newer cards
// --bench         also builds and links the bench program
// --if-available  without nvcc, says so and succeeds
// --nvcc          the compiler to use
// --release       puts the library into DIR, and makes it fit for other machines: linked against an old glibc, with libstdc++ inside,
//                 stripped, and without cuBLASLt, whose place on another machine nobody knows
//
// Unless given, nvcc is taken from CUDA_HOME, CUDA_PATH, the PATH or /usr/local/cuda. cuBLASLt is used when its header lies beside nvcc's own or
// under CUBLAS_DIR (include/cublasLt.h, lib/libcublasLt.so*). ptxas' registers and spills of every kernel go to ptxas.txt, and
// everything the compiler said to compile.log, both in kernels/build/cuda. A source is compiled again when it, a header or the options are newer.
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { deviceSources, kernelSources, sharedSources } from './cuda-sources.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const kernels = join(root, 'kernels');
const sourceFolder = join(kernels, 'cuda');
const buildFolder = join(kernels, 'build/cuda');
const LIBRARY = 'libswitchyard_cuda.so';
const oldestNvcc = [12, 4];

function fail(message) {
  console.error(`build-cuda: ${message}`);
  process.exit(1);
}

function findNvcc(given) {
  if (given) return existsSync(given) ? given : undefined;
  const folders = [process.env.CUDA_HOME, process.env.CUDA_PATH]
    .filter(Boolean)
    .map((home) => join(home, 'bin'));
  folders.push(...(process.env.PATH ?? '').split(delimiter), '/usr/local/cuda/bin');
  return folders.map((folder) => join(folder, 'nvcc')).find((path) => existsSync(path));
}

function versionOf(nvcc) {
  const text = execFileSync(nvcc, ['--version'], { encoding: 'utf8' });
  const match = /release (\d+)\.(\d+)/.exec(text);
  return match ? [Number(match[1]), Number(match[2])] : [0, 0];
}

/** Where cublasLt.h and its library lie, or nothing. */
function findCublasLt(nvcc) {
  const homes = [process.env.CUBLAS_DIR, dirname(dirname(nvcc))].filter(Boolean);
  for (const home of homes) {
    const include = ['include', 'targets/x86_64-linux/include', 'targets/sbsa-linux/include']
      .map((folder) => join(home, folder))
      .find((folder) => existsSync(join(folder, 'cublasLt.h')));
    if (!include) continue;
    const folders = ['lib64', 'lib', 'targets/x86_64-linux/lib', 'targets/sbsa-linux/lib'].map((f) =>
      join(home, f),
    );
    const libraries = folders.filter(existsSync).flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name.startsWith('libcublasLt.so'))
        .map((name) => join(folder, name)),
    );
    return { include, library: libraries.sort((a, b) => a.length - b.length)[0] };
  }
  return undefined;
}

const isSource = (name) => name.endsWith('.cu') || name.endsWith('.cc');
const isHeader = (name) => name.endsWith('.h') || name.endsWith('.cuh');
const list = (folder, wanted) =>
  readdirSync(folder)
    .filter(wanted)
    .sort()
    .map((name) => join(folder, name));
/** The library's sources; one of the two GEMM files is left out. */
function librarySources(cublasLt) {
  const left = cublasLt ? 'gemm_plain.cu' : 'gemm_cublaslt.cc';
  const own = kernelSources.filter((path) => basename(path) !== left);
  return [...own, ...deviceSources, ...sharedSources];
}

function newestHeader() {
  const headers = readdirSync(kernels, { recursive: true })
    .filter((name) => isHeader(name) && !name.startsWith('build'))
    .map((name) => join(kernels, name));
  return Math.max(...[...headers, fileURLToPath(import.meta.url)].map((path) => statSync(path).mtimeMs));
}

/** What nvcc is told for a source; cuBLASLt's headers are seen by the one file that uses them. */
function compilerOptions(source, archs, cublasLt) {
  // What is built for a capability with a letter, such as 90a, runs on no other: it makes no PTX.
  const portable = archs.find((arch) => /^\d+$/.test(arch));
  const targets = archs.flatMap((arch) => {
    const code = arch === portable ? `[sm_${arch},compute_${arch}]` : `sm_${arch}`;
    return ['-gencode', `arch=compute_${arch},code=${code}`];
  });
  const includes = source.endsWith('gemm_cublaslt.cc') ? ['-I', cublasLt.include] : [];
  const common = [
    '-std=c++20',
    '-O3',
    '-Xptxas',
    '-v',
    '-Xcompiler',
    '-Wall,-Wextra,-fPIC,-fvisibility=hidden',
  ];
  return [...common, ...targets, ...includes];
}

const run = (command, args) =>
  new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.stderr.on('data', (data) => {
      output += data;
    });
    child.on('error', (error) => resolve({ code: -1, output: String(error) }));
    child.on('close', (code) => resolve({ code, output }));
  });

/** Compiles one source unless its object is up to date; the compiler's words are kept beside the object. */
async function compile(nvcc, source, options, headersTime) {
  const object = join(buildFolder, 'objects', `${source.slice(kernels.length + 1).replaceAll('/', '_')}.o`);
  const log = `${object}.log`;
  const command = [...options, '-c', source, '-o', object];
  const header = `${command.join(' ')}\n`;
  const newest = Math.max(headersTime, statSync(source).mtimeMs);
  const fresh = existsSync(object) && existsSync(log) && statSync(object).mtimeMs > newest;
  if (!fresh || !readFileSync(log, 'utf8').startsWith(header)) {
    rmSync(object, { force: true });
    const { code, output } = await run(nvcc, command);
    if (code !== 0) fail(`${source} does not compile:\n${output}`);
    writeFileSync(log, header + output);
  }
  return { object, log: readFileSync(log, 'utf8') };
}

async function compileAll(nvcc, sources, optionsOf) {
  const headersTime = newestHeader();
  const results = new Array(sources.length);
  let next = 0;
  const worker = async () => {
    while (next < sources.length) {
      const index = next++;
      results[index] = await compile(nvcc, sources[index], optionsOf(sources[index]), headersTime);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), 8) }, worker));
  return results;
}

/** One line a kernel: target, mangled name, registers, stack and spills in bytes. */
function ptxasFigures(log) {
  const lines = [];
  let entry;
  for (const line of log.split('\n')) {
    const started = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line);
    if (started) entry = { name: started[1], target: started[2] };
    const memory = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (entry && memory) Object.assign(entry, { stack: memory[1], stores: memory[2], loads: memory[3] });
    const used = /Used (\d+) registers/.exec(line);
    if (!entry || !used) continue;
    const { name, target, stack, stores, loads } = entry;
    lines.push(
      `${target} ${name} registers ${used[1]} stack ${stack} spill_stores ${stores} spill_loads ${loads}`,
    );
    entry = undefined;
  }
  return lines;
}

function cublasOptions(cublasLt) {
  if (!cublasLt?.library) return [];
  return ['-Xlinker', cublasLt.library, '-Xlinker', `-rpath=${dirname(cublasLt.library)}`];
}

/** Only one of the objects' symbols leaves the library; the file is replaced in one step, since it may be open. */
async function linkLibrary(nvcc, objects, cublasLt, release) {
  const target = join(release?.folder ?? join(kernels, 'build'), LIBRARY);
  mkdirSync(dirname(target), { recursive: true });
  const temporary = `${target}.${process.pid}`;
  const symbols = join(buildFolder, 'symbols.map');
  writeFileSync(symbols, '{ global: switchyard_open_device_library; local: *; };\n');
  const options = [
    '-shared',
    '-cudart',
    'static',
    '-Xlinker',
    `--version-script=${symbols}`,
    '-Xlinker',
    '-z,defs',
    ...(release?.options ?? []),
  ];
  const linked = [...objects, ...cublasOptions(cublasLt), '-lpthread', '-ldl', '-lrt', '-o', temporary];
  const { code, output } = await run(nvcc, [...options, ...linked]);
  if (code !== 0) fail(`${target} does not link:\n${output}`);
  renameSync(temporary, target);
  console.log(`build-cuda: ${target}; registers and spills in ${join(buildFolder, 'ptxas.txt')}`);
}

/** What linking takes besides, for a library that runs on other machines. */
async function releaseOptions(nvcc, out) {
  const { glibcShim, oldGlibc } = await import('./release/targets.mjs');
  mkdirSync(buildFolder, { recursive: true });
  const shim = join(buildFolder, 'glibc-shim.o');
  const { code, output } = await run(nvcc, [
    '-std=c++20',
    '-O3',
    '-Xcompiler',
    '-fPIC',
    '-c',
    glibcShim,
    '-o',
    shim,
  ]);
  if (code !== 0) fail(`${glibcShim} does not compile:\n${output}`);
  const options = [...oldGlibc('amd64'), '-static-libstdc++', '-shared-libgcc'].flatMap((flag) => [
    '-Xcompiler',
    flag,
  ]);
  return {
    folder: out,
    objects: [shim],
    options: [...options, '-Xlinker', '--gc-sections', '-Xlinker', '--strip-all'],
  };
}

async function linkBench(nvcc, objects, cublasLt) {
  const program = join(buildFolder, 'bench');
  const { code, output } = await run(nvcc, [
    ...objects,
    ...cublasOptions(cublasLt),
    '-cudart',
    'static',
    '-o',
    program,
  ]);
  if (code !== 0) fail(`${program} does not link:\n${output}`);
  console.log(`build-cuda: ${program}`);
}

async function main() {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string', default: '80,90a' },
      bench: { type: 'boolean', default: false },
      'if-available': { type: 'boolean', default: false },
      nvcc: { type: 'string' },
      release: { type: 'string' },
    },
  });
  const nvcc = findNvcc(values.nvcc);
  if (!nvcc) {
    const where = values.nvcc ?? 'CUDA_HOME, CUDA_PATH, the PATH or /usr/local/cuda';
    const message = `nvcc not found in ${where}; the CUDA kernels are not built`;
    if (!values['if-available']) fail(message);
    console.log(`build-cuda: ${message}`);
    return;
  }
  const version = versionOf(nvcc);
  if (version[0] < oldestNvcc[0] || (version[0] === oldestNvcc[0] && version[1] < oldestNvcc[1])) {
    fail(`${nvcc} is release ${version.join('.')}; ${oldestNvcc.join('.')} or newer is needed`);
  }
  const archs = values.arch.split(',');
  const release = values.release && (await releaseOptions(nvcc, values.release));
  const cublasLt = release ? undefined : findCublasLt(nvcc);
  console.log(`build-cuda: nvcc ${version.join('.')}, sm_${archs.join(', sm_')}`);
  console.log(
    cublasLt
      ? `build-cuda: cuBLASLt from ${cublasLt.include}`
      : `build-cuda: cuBLASLt left out: ${release ? 'of a release' : 'no cublasLt.h beside nvcc; set CUBLAS_DIR to a folder with include/ and lib/'}`,
  );
  if (cublasLt && !cublasLt.library) fail(`no libcublasLt.so beside ${cublasLt.include}`);
  mkdirSync(join(buildFolder, 'objects'), { recursive: true });
  const library = librarySources(cublasLt);
  const bench = values.bench ? list(join(sourceFolder, 'bench'), isSource) : [];
  const compiled = await compileAll(nvcc, [...library, ...bench], (source) =>
    compilerOptions(source, archs, cublasLt),
  );
  writeFileSync(join(buildFolder, 'compile.log'), compiled.map(({ log }) => log).join('\n'));
  writeFileSync(
    join(buildFolder, 'ptxas.txt'),
    `${compiled.flatMap(({ log }) => ptxasFigures(log)).join('\n')}\n`,
  );
  const objects = compiled.map(({ object }) => object);
  const own = objects.slice(0, library.length);
  await linkLibrary(nvcc, [...own, ...(release?.objects ?? [])], cublasLt, release);
  if (values.bench) await linkBench(nvcc, objects, cublasLt);
}

await main();
