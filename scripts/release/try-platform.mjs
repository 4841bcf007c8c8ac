#!/usr/bin/env node
// Runs addons on the systems that they are for, emulated on this one (emulators.mjs):
//
//   node scripts/release/try-platform.mjs TARGET --addons DIR [--part demo|kernels|tests]... [TEST...]
//
// TARGET is win32-x64 or linux-arm64, and DIR/TARGET/switchyard.node the addon. `demo` lets the demo model speak greedily, with each of
// the backends on each instruction set, and compares the words with this machine's. `kernels` compiles the native test programs for the
// target and runs them. `tests` runs those of the suite that the emulator can show, or the tests given. Without --part: all of them.
// `npm run build` must have been here.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { commandOf, emulators, runNode } from './emulators.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const PARTS = ['demo', 'kernels', 'tests'];
const NODE_VERSION = '22.23.3';
const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];
const SAY = ['generate', '--prompt', 'The river', '--max-new-tokens', '24', '--temperature', '0'];
const cli = 'dist/cli/main.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { addons: { type: 'string' }, part: { type: 'string', multiple: true } },
});
const [target, ...tests] = positionals;
const emulator = emulators[target];
const parts = values.part ?? PARTS;
if (!emulator || !values.addons || parts.some((part) => !PARTS.includes(part))) {
  console.error(
    `usage: try-platform.mjs ${Object.keys(emulators).join('|')} --addons DIR [--part ${PARTS.join('|')}]...`,
  );
  process.exit(2);
}
/** Outside of the repository: wine's folders lead to all of the disk. */
const folder = join(tmpdir(), `switchyard-${target}`);
const faults = [];

/** The repository as it is, with the target's packages and addon. */
function layOut() {
  mkdirSync(folder, { recursive: true });
  for (const name of ['dist', 'src', 'test', 'configs', 'scripts', '.github']) {
    rmSync(join(folder, name), { recursive: true, force: true });
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const installed = join(folder, 'installed.json');
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'README.md'])
    cpSync(join(root, name), join(folder, name));
  const addon = join(resolve(values.addons), target, 'switchyard.node');
  cpSync(addon, join(folder, 'prebuilds', target, 'switchyard.node'));
  if (!existsSync(installed) || readFileSync(installed, 'utf8') !== lock) {
    const platform = [`--os=${emulator.os}`, `--cpu=${emulator.cpu}`];
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
    execFileSync('npm', ['ci', ...platform, ...quiet], { cwd: folder, stdio: 'inherit' });
    const node = `${emulator.node.split('/')[0]}@${NODE_VERSION}`;
    execFileSync('npm', ['install', '--no-save', '--force', ...platform, ...quiet, node], {
      cwd: folder,
      stdio: 'inherit',
    });
    writeFileSync(installed, lock);
  }
  emulator.prepare(folder);
}

function report(ok, what, more = '') {
  console.log(`${ok ? 'ok   ' : 'FAULT'} ${what}`);
  if (!ok) faults.push(`${what}\n${more}`);
}

function demo() {
  const doctor = runNode(emulator, folder, [cli, 'doctor', '--json']);
  report(doctor.ok, 'doctor', doctor.stdout + doctor.stderr);
  if (!doctor.ok) return;
  const { features } = JSON.parse(doctor.stdout).engine.working.cpu;
  for (const backend of BACKENDS) {
    const words = execFileSync(process.execPath, [join(root, cli), ...SAY, '--experts', backend], {
      encoding: 'utf8',
    });
    for (const isa of features) {
      const env = { SWITCHYARD_CPU_ISA: isa };
      const said = runNode(emulator, folder, [cli, ...SAY, '--experts', backend], { env });
      report(
        said.ok && said.stdout === words,
        `demo, ${backend}, ${isa}: "${said.stdout.trim().slice(0, 60)}…"`,
        said.stderr,
      );
    }
  }
}

function kernels() {
  const tools = join(folder, 'tools');
  const env = {
    ...process.env,
    ...emulator.environment(folder),
    SWITCHYARD_TEST_SYSTEM: emulator.system,
    CXX: commandOf(emulator.compiler, tools, 'compiler'),
    SWITCHYARD_TEST_RUNNER: commandOf(emulator.runner, tools, 'runner'),
  };
  const programs = ['cpu', 'residency.test.ts', 'lost-pages.test.ts'].map((name) => `test/kernels/${name}`);
  const { status } = spawnSync('npx', [...vitest, ...programs], { cwd: root, env, stdio: 'inherit' });
  report(status === 0, 'native programs: kernels, residency, lost pages');
}

const vitest = ['vitest', 'run', '--config', 'configs/vitest.config.ts', '--project', 'quick'];

function suite() {
  const results = join(folder, 'results.json');
  rmSync(results, { force: true });
  const run = runNode(emulator, folder, [
    ...['node_modules/vitest/vitest.mjs', ...vitest.slice(1), '--pool=threads'],
    ...['--reporter=json', `--outputFile=${relative(folder, results)}`],
    ...(tests.length > 0 ? tests : emulator.tests),
  ]);
  if (!existsSync(results))
    return report(false, 'tests', `ended with ${run.ended}\n${run.stdout}${run.stderr}`);
  const { testResults, numPassedTests } = JSON.parse(readFileSync(results, 'utf8'));
  const excused = [];
  for (const { name: file, message, assertionResults } of testResults) {
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    if (message && failed.length === 0) report(false, relative(folder, file), message);
    for (const { fullName, failureMessages } of failed) {
      const reason = Object.entries(emulator.beyond).find(([beginning]) =>
        fullName.startsWith(beginning),
      )?.[1];
      if (reason === undefined) report(false, fullName, failureMessages.join('\n'));
      else excused.push(`${fullName}: ${reason}`);
    }
  }
  report(numPassedTests > 0, `${numPassedTests} tests passed; beyond the emulator: ${excused.length}`);
  for (const line of excused) console.log(`     ${line}`);
}

layOut();
if (parts.includes('demo')) demo();
if (parts.includes('kernels')) kernels();
if (parts.includes('tests')) suite();
for (const fault of faults) console.error(`\n${fault}`);
process.exitCode = faults.length > 0 ? 1 : 0;
