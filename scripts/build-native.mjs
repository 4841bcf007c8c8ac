// Compiles the addon kernels/build/switchyard.node. Runs at `npm install`, so it is plain Node and needs nothing but a
// C++20 compiler: $CXX, or the first of c++, g++ and clang++ that works. Only what changed is compiled again.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const kernels = join(root, 'kernels');
const build = join(kernels, 'build');
const target = join(build, 'switchyard.node');
const sourceFolders = ['binding', 'cpu', 'engine', 'ops', 'ort', 'platform/posix', 'weights'];
const skippedFolders = new Set(['bench', 'cuda', 'test']);

class BuildError extends Error {}

function checkPlatform() {
  if (process.platform === 'linux' || process.platform === 'darwin') return;
  throw new BuildError(
    `Switchyard does not support ${process.platform} yet: its engine builds on Linux and macOS. On Windows, use WSL.`,
  );
}

function findSources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return skippedFolders.has(entry.name) ? [] : findSources(path);
    return entry.name.endsWith('.cc') ? [path] : [];
  });
}

const require = createRequire(import.meta.url);

/** Depfiles leave out the headers of packages, so their versions stand for them. */
function headerVersions() {
  return ['node-addon-api', 'node-api-headers'].map((name) => require(`${name}/package.json`).version);
}

function compileFlags() {
  // Both packages export more than a path, but only these fields are needed and they have always been there.
  const napi = require('node-addon-api').include_dir;
  const node = require('node-api-headers').include_dir;
  return [
    '-std=c++20',
    '-O3',
    '-fPIC',
    '-fvisibility=hidden',
    '-Wall',
    '-Wextra',
    '-pthread',
    '-DNAPI_VERSION=8',
    '-DNAPI_CPP_EXCEPTIONS',
    '-DNODE_ADDON_API_CPP_EXCEPTIONS_ALL',
    // A worker that is being terminated refuses exceptions too, and node-addon-api would answer that with a C++ exception out
    // of the callback, which ends the process. With this the refusal, which no living environment utters, is let go.
    '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
    '-isystem',
    napi,
    '-isystem',
    node,
    ...splitFlags(process.env.CXXFLAGS),
  ];
}

function linkFlags() {
  const platform = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-ldl'];
  return ['-shared', '-pthread', ...platform, ...splitFlags(process.env.LDFLAGS)];
}

function splitFlags(text) {
  return (text ?? '').split(/\s+/).filter(Boolean);
}

function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const candidate of candidates) {
    const [command, ...args] = splitFlags(candidate);
    if (spawnSync(command, [...args, '--version'], { stdio: 'ignore' }).status === 0)
      return [command, ...args];
  }
  const remedy =
    process.platform === 'darwin'
      ? 'install it with: xcode-select --install'
      : 'install one, for example: apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), apk add g++ (Alpine)';
  throw new BuildError(
    `Switchyard needs a C++20 compiler; tried ${candidates.join(', ')} without success: ${remedy}.`,
  );
}

/** Modification time in ms; a missing file counts as newer than everything. */
function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
}

/** The files a depfile (`object: source header \` …) names. */
function dependencies(depfile) {
  return readFileSync(depfile, 'utf8')
    .replace(/\\\n/g, ' ')
    .replace(/^.*?:\s/, '')
    .split(/(?<!\\)\s+/)
    .filter(Boolean)
    .map((path) => path.replaceAll('\\ ', ' '));
}

function isFresh(object, depfile) {
  if (!existsSync(object) || !existsSync(depfile)) return false;
  const built = modified(object);
  return dependencies(depfile).every((path) => modified(path) <= built);
}

/** One unit a source file; objects of other flags live elsewhere, so changing flags never mixes them. */
function units(sources, flags, compiler) {
  const recipe = JSON.stringify([flags, compiler, process.arch, headerVersions()]);
  const key = createHash('sha256').update(recipe).digest('hex').slice(0, 12);
  return sources.map((source) => {
    const stem = join(build, key, relative(kernels, source).split(sep).join('.'));
    return { source, object: `${stem}.o`, depfile: `${stem}.d` };
  });
}

function run(what, [command, ...args]) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) return resolve(output);
      reject(
        new BuildError(
          `${output}\nSwitchyard's engine does not build: ${command} failed on ${what} (code ${code}). ` +
            'It needs g++ 12, clang 15 or newer; $CXX chooses another compiler.',
        ),
      );
    });
  });
}

async function compile(unit, compiler, flags) {
  const started = Date.now() / 1000;
  const temporary = `${unit.object}.${process.pid}`;
  const output = await run(relative(root, unit.source), [
    ...compiler,
    ...flags,
    '-MMD',
    '-MF',
    `${temporary}.d`,
    '-MT',
    'object',
    '-c',
    unit.source,
    '-o',
    temporary,
  ]);
  if (output) process.stderr.write(output);
  // A source that changes while it compiles must count as newer than its object.
  utimesSync(temporary, started, started);
  renameSync(`${temporary}.d`, unit.depfile);
  renameSync(temporary, unit.object);
}

async function compileAll(stale, compiler, flags) {
  const queue = [...stale];
  const worker = async () => {
    for (let unit = queue.shift(); unit; unit = queue.shift()) await compile(unit, compiler, flags);
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), stale.length) }, worker));
}

/** Every file is made under another name and renamed, so builds that run at once only repeat each other's work. */
async function link(all, compiler) {
  const temporary = `${target}.${process.pid}`;
  try {
    await run(relative(root, target), [
      ...compiler,
      ...all.map((unit) => unit.object),
      '-o',
      temporary,
      ...linkFlags(),
    ]);
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { force: true });
  }
}

async function main() {
  checkPlatform();
  const sources = sourceFolders.flatMap((folder) => findSources(join(kernels, folder))).sort();
  const flags = compileFlags();
  const all = units(sources, flags, process.env.CXX ?? '');
  const stale = all.filter((unit) => !isFresh(unit.object, unit.depfile));
  const recipe = JSON.stringify([all.map((unit) => unit.object), linkFlags()]);
  const recipeFile = join(build, 'recipe.json');
  const linked = existsSync(target) && existsSync(recipeFile) && readFileSync(recipeFile, 'utf8') === recipe;
  if (stale.length === 0 && linked && all.every((unit) => modified(unit.object) <= modified(target))) return;

  const compiler = findCompiler();
  mkdirSync(dirname(all[0].object), { recursive: true });
  const started = Date.now();
  await compileAll(stale, compiler, flags);
  await link(all, compiler);
  writeFileSync(recipeFile, recipe);
  console.error(
    `built ${relative(root, target)} (${stale.length} files) in ${((Date.now() - started) / 1000).toFixed(1)} s`,
  );
}

try {
  await main();
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
