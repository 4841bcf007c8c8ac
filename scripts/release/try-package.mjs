#!/usr/bin/env node
// Installs a packed release as its users do, and lets the demo model speak in every kind of project:
//
//   node scripts/release/try-package.mjs TARBALL [--work DIR] [--only MANAGER]
//
// No compiler is on the PATH, install scripts are blocked, and packages come from a registry on loopback. Prints a table, and exits with 1
// where something does not speak, or says other words than the rest. --work keeps tools and downloads for the next time.
import { spawn } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { managerEnvironment, NODE_VERSIONS, packageManagers } from './managers.mjs';
import { kinds, PROMPT, TOKENS, TOOLS } from './projects.mjs';
import { openRegistry } from './registry.mjs';
import { fillToolbox, nodeIn, pathIn } from './toolbox.mjs';

/** Managers run on this version, and so do the projects that they install. */
const USUAL_NODE = '24';
/** The manager whose project is tried with every version of Node. */
const USUAL_MANAGER = 'npm 12';
const COMMAND = 'command';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { work: { type: 'string' }, only: { type: 'string' } },
});
const [tarball] = positionals;
if (!tarball || !existsSync(tarball)) {
  console.error('usage: node scripts/release/try-package.mjs TARBALL [--work DIR] [--only MANAGER]');
  process.exit(2);
}
const work = resolve(options.work ?? mkdtempSync(join(tmpdir(), 'switchyard-try-')));
const tools = join(work, 'tools');

/** A program's end: whether it went well, what it printed, and that with what it said besides. */
function start([program, ...args], cwd, env) {
  return new Promise((done) => {
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let said = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      said += chunk;
    });
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    child.on('error', (error) => done({ ok: false, stdout, said: `${said}${error.message}` }));
    child.on('close', (code) => done({ ok: code === 0, stdout, said }));
  });
}

function megabytes(folder) {
  // Of a file that is linked twice once.
  const files = readdirSync(folder, { recursive: true })
    .map((name) => lstatSync(join(folder, name)))
    .filter((entry) => entry.isFile());
  const bytes = [...new Map(files.map(({ ino, size }) => [ino, size])).values()].reduce((a, b) => a + b, 0);
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Rows of the table, and what those that failed said. */
const rows = [];
const failures = [];
let words;

function judge(row, column, { ok, stdout, said }) {
  const text = stdout.trim();
  words ??= text;
  if (ok && text.startsWith(PROMPT) && text.length > PROMPT.length && text === words) return 'yes';
  failures.push(`${row}, ${column}: ${said.trim().split('\n').slice(-12).join('\n')}`);
  return 'NO';
}

/** Lets every kind of project speak in an installed one. */
async function speak(row, { project, manager, node, env }) {
  const cells = {};
  for (const [kind, { files, prepare, entry }] of Object.entries(kinds)) {
    const folder = join(project, kind.replaceAll(' ', '-'));
    mkdirSync(folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const prepared = prepare && (await start(manager.run(project, prepare), folder, env));
    cells[kind] =
      prepared?.ok === false
        ? judge(row, kind, prepared)
        : judge(row, kind, await start(manager.node(node, entry), folder, env));
  }
  const generate = ['generate', '--prompt', PROMPT, '--temperature', '0', '--max-new-tokens', String(TOKENS)];
  const { ok, stdout, said } = await start(
    manager.run(project, ['moe-switchyard', ...generate]),
    project,
    env,
  );
  // The command prints what comes after the prompt.
  cells[COMMAND] = judge(row, COMMAND, { ok, stdout: `${PROMPT}${stdout}`, said });
  return cells;
}

async function tryManager(name, manager, registry) {
  const project = join(work, 'projects', name.replace(/\W+/g, '-'));
  const home = join(work, 'home', name.replace(/\W+/g, '-'));
  for (const folder of [project, home]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  const files = {
    // Not every manager reads the registry from the environment.
    '.npmrc': `registry=${registry}/\n`,
    'package.json': '{ "name": "tried", "version": "1.0.0", "private": true }',
    ...manager.files,
  };
  for (const [file, text] of Object.entries(files)) writeFileSync(join(project, file), text);
  const env = managerEnvironment({ registry, home, path: pathIn(tools, USUAL_NODE) });
  const started = Date.now();
  const installed = await start(manager.install('moe-switchyard'), project, env);
  const seconds = `${((Date.now() - started) / 1000).toFixed(0)} s`;
  if (!installed.ok) {
    failures.push(`${name}, install: ${installed.said.trim().split('\n').slice(-20).join('\n')}`);
    rows.push({ with: name, node: USUAL_NODE, install: 'NO' });
    return;
  }
  const size = megabytes(project);
  const more = await start(manager.install(...TOOLS), project, env);
  if (!more.ok) failures.push(`${name}, ${TOOLS.join(' ')}: ${more.said}`);
  const versions = name === USUAL_MANAGER ? Object.keys(NODE_VERSIONS) : [USUAL_NODE];
  for (const version of versions) {
    const row = `${name}, Node ${version}`;
    const node = nodeIn(tools, version);
    const cells = await speak(row, { project, manager, node, env: { ...env, PATH: pathIn(tools, version) } });
    rows.push({ with: name, node: version, install: `${seconds}, ${size}`, ...cells });
  }
}

function print() {
  const columns = ['with', 'node', 'install', ...Object.keys(kinds), COMMAND];
  const line = (cells) => `| ${cells.join(' | ')} |`;
  console.log(line(columns));
  console.log(line(columns.map(() => '---')));
  for (const row of rows) console.log(line(columns.map((column) => row[column] ?? '')));
  for (const failure of failures) console.log(`\n${failure}`);
}

fillToolbox(tools);
const registry = await openRegistry(resolve(tarball), join(work, 'downloads'));
try {
  const managers = Object.entries(packageManagers(tools, nodeIn(tools, USUAL_NODE)));
  for (const [name, manager] of managers)
    if (options.only === undefined || options.only === name) await tryManager(name, manager, registry.url);
} finally {
  registry.close();
}
print();
if (options.work === undefined) rmSync(work, { recursive: true, force: true });
process.exitCode = failures.length === 0 && rows.length > 0 ? 0 : 1;
