#!/usr/bin/env node
// Runs clang-tidy with configs/clang-tidy.yaml over the addon's sources, or over the files given. Without a recent clang-tidy it says so and,
// where --if-available is given, succeeds.
//
//   node scripts/clang-tidy.mjs [--if-available] [FILE...]
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
/** What the addon is not made of here: the other library, benchmarks, what builds leave, and code of other systems. */
const SKIPPED = new Set(['bench', 'build', 'cuda', process.platform === 'win32' ? 'posix' : 'windows']);

/** The oldest release that runs the checks as they are meant: earlier ones take what depends on a template for a fault. */
const RELEASE = 19;

/** The command of a clang-tidy that is recent enough; undefined where there is none. */
function installed() {
  return ['clang-tidy', `clang-tidy-${RELEASE}`].find((command) => {
    const { stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    return Number(/version (\d+)/.exec(stdout ?? '')?.[1]) >= RELEASE;
  });
}

function addonSources() {
  return readdirSync(join(root, 'kernels'), { recursive: true })
    .filter((path) => path.endsWith('.cc') && !path.split(sep).some((part) => SKIPPED.has(part)))
    .filter((path) => !path.endsWith('_cuda.cc'))
    .map((path) => join('kernels', path))
    .sort();
}

const compilerFlags = [
  '-std=c++20',
  '-pthread',
  ...['-DNAPI_VERSION=8', '-DNAPI_CPP_EXCEPTIONS', '-DNODE_ADDON_API_CPP_EXCEPTIONS_ALL'],
  ...['node-addon-api', 'node-api-headers'].flatMap((name) => ['-isystem', require(name).include_dir]),
];

/** What clang-tidy has to say of a file; empty where nothing. */
function check(file) {
  const args = ['--quiet', '--config-file=configs/clang-tidy.yaml', file, '--', ...compilerFlags];
  return new Promise((resolve, reject) => {
    const child = spawn(clangTidy, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let errors = '';
    child.stdout.on('data', (text) => {
      said += text;
    });
    child.stderr.on('data', (text) => {
      errors += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve(code === 0 ? '' : said || errors));
  });
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'if-available': { type: 'boolean', default: false } },
});
const clangTidy = installed();
if (clangTidy === undefined) {
  console.error(`clang-tidy: release ${RELEASE} or later is not installed; the native code is not checked`);
  process.exit(values['if-available'] ? 0 : 1);
}
const files = positionals.length > 0 ? positionals.map((path) => relative(root, path)) : addonSources();
const queue = [...files];
const faults = [];
const worker = async () => {
  for (let file = queue.shift(); file; file = queue.shift()) {
    const said = await check(file);
    if (said) faults.push(said);
  }
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));
for (const text of faults) console.error(text);
console.error(`clang-tidy: ${files.length} files, findings in ${faults.length}`);
process.exitCode = faults.length > 0 ? 1 : 0;
