// Compiles the sources of the addon and links them, by a recipe that says with what and for where. Only what changed is compiled again.
import { spawn } from 'node:child_process';
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
import { basename, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const kernels = join(root, 'kernels');
export const buildFolder = join(kernels, 'build');
const sourceFolders = ['binding', 'cpu', 'engine', 'ops', 'ort', 'weights'];
const skippedFolders = new Set(['bench', 'cuda', 'test']);

/** A fault whose message says everything. */
export class BuildError extends Error {}

/**
 * @typedef {object} Recipe
 * @property {string} target the addon to make
 * @property {() => string[]} compiler the command that compiles; called only if something is to compile
 * @property {string} compilerName stands for the compiler where nothing is to compile
 * @property {string[]} flags of every source, besides those that all recipes share
 * @property {'posix' | 'windows'} system whose code in kernels/platform is taken
 * @property {string[]} [sources] besides the addon's own
 * @property {(compiler: string[], objects: string[], output: string) => string[]} link the command that links
 */

/** @typedef {Pick<Recipe, 'compiler' | 'compilerName' | 'flags'>} CompileRecipe */

const require = createRequire(import.meta.url);

/** Depfiles leave out the headers of packages, so their versions stand for them. */
function headerVersions() {
  return ['node-addon-api', 'node-api-headers'].map((name) => require(`${name}/package.json`).version);
}

/** @param {string[]} own flags of a recipe */
function compileFlags(own) {
  // Both packages export more than a path, but only these fields are needed and they have always been there.
  const napi = require('node-addon-api').include_dir;
  const node = require('node-api-headers').include_dir;
  return [
    '-std=c++20',
    '-O3',
    ...own,
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
  ];
}

function findSources(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return skippedFolders.has(entry.name) ? [] : findSources(path);
    return entry.name.endsWith('.cc') ? [path] : [];
  });
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

function isFresh({ object, depfile }) {
  if (!existsSync(object) || !existsSync(depfile)) return false;
  const built = modified(object);
  return dependencies(depfile).every((path) => modified(path) <= built);
}

/**
 * One unit a source file, and which of them are to be compiled; objects of other flags live elsewhere, so changing flags never mixes
 * them.
 */
function planUnits(sources, flags, compilerName) {
  const recipe = JSON.stringify([flags, compilerName, process.arch, headerVersions()]);
  const key = createHash('sha256').update(recipe).digest('hex').slice(0, 12);
  const units = sources.map((source) => {
    const path = source.startsWith(kernels) ? relative(kernels, source) : basename(source);
    const stem = join(buildFolder, key, path.split(sep).join('.'));
    return { source, object: `${stem}.o`, depfile: `${stem}.d` };
  });
  return { objects: units.map(({ object }) => object), stale: units.filter((unit) => !isFresh(unit)) };
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
  for (const folder of new Set(stale.map(({ object }) => dirname(object))))
    mkdirSync(folder, { recursive: true });
  const queue = [...stale];
  let done = 0;
  const worker = async () => {
    for (let unit = queue.shift(); unit; unit = queue.shift()) {
      await compile(unit, compiler, flags);
      done += 1;
      if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${stale.length}\r`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), stale.length) }, worker));
}

/**
 * Every file is made elsewhere and renamed, so builds that run at once only repeat each other's work. The name stays the same, because
 * linkers for Windows write it into the file.
 */
async function link(target, command) {
  const folder = `${target}.${process.pid}`;
  const temporary = join(folder, basename(target));
  try {
    mkdirSync(folder);
    await run(relative(root, target), command(temporary));
    renameSync(temporary, target);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The objects of `sources` as they are in the addon of the same recipe, for other programs to link. What is not up to date is compiled.
 *
 * @param {CompileRecipe} of
 * @param {readonly string[]} sources
 * @returns {Promise<string[]>} in their order
 * @throws {BuildError}
 */
export async function buildObjects({ compiler, compilerName, flags }, sources) {
  const allFlags = compileFlags(flags);
  const { objects, stale } = planUnits(sources, allFlags, compilerName);
  if (stale.length > 0) await compileAll(stale, compiler(), allFlags);
  return objects;
}

/**
 * Builds what is not up to date, and says so on stderr.
 *
 * @param {Recipe} of
 * @throws {BuildError}
 */
export async function buildAddon(of) {
  const { target, compiler, compilerName, flags, system, sources: more = [], link: linkCommand } = of;
  const folders = [...sourceFolders, join('platform', system)];
  const sources = [...folders.flatMap((folder) => findSources(join(kernels, folder))).sort(), ...more];
  const allFlags = compileFlags(flags);
  const { objects, stale } = planUnits(sources, allFlags, compilerName);
  const recipe = JSON.stringify(linkCommand([compilerName], objects, target));
  const recipeFile = join(dirname(objects[0]), 'recipe.json');
  const linked = existsSync(target) && existsSync(recipeFile) && readFileSync(recipeFile, 'utf8') === recipe;
  if (stale.length === 0 && linked && objects.every((object) => modified(object) <= modified(target))) return;

  const command = compiler();
  const started = Date.now();
  mkdirSync(dirname(target), { recursive: true });
  if (stale.length > 0) console.error(`compiling ${stale.length} files of the native engine`);
  await compileAll(stale, command, allFlags);
  await link(target, (output) => linkCommand(command, objects, output));
  writeFileSync(recipeFile, recipe);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.error(`built ${relative(process.cwd(), target)} (${stale.length} files) in ${seconds} s`);
}
