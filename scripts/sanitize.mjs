#!/usr/bin/env node
// Runs native code under sanitizers: the test programs of kernels, planner and residency under AddressSanitizer with UBSan and under
// ThreadSanitizer (test/kernels/*-sanitizer.slow.test.ts), then the whole addon under AddressSanitizer with UBSan in the tests of sessions,
// ops and weights. It works in a copy, in the system's temporary folder, so that the addon in use stays as it is.
//
//   node scripts/sanitize.mjs [--addon-only] [TEST...]
//
// TEST names other tests for the addon. Leaks are not looked for: Node itself keeps what it has until it ends.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const copy = join(tmpdir(), 'switchyard-sanitized');
const compiler = process.env.CXX ?? 'g++';
const ADDON_TESTS = ['test/runtime/session.test.ts', 'test/runtime/ops', 'test/runtime/weight-store.test.ts'];
const SANITIZE = '-fsanitize=address,undefined';

function run(cwd, command, args, env = {}) {
  const { status } = spawnSync(command, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
  if (status !== 0) process.exit(status ?? 1);
}

const vitest = (...args) => [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...args];

/** Everything a test of the addon reads; what was built in the copy stays, so that only changed sources are compiled. */
function makeCopy() {
  mkdirSync(copy, { recursive: true });
  for (const name of ['src', 'test', 'configs', 'scripts']) {
    rmSync(join(copy, name), { recursive: true, force: true });
    cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  for (const name of ['package.json', 'tsconfig.json']) cpSync(join(root, name), join(copy, name));
  const kernels = join(copy, 'kernels');
  // Sources that are no more would still be compiled.
  for (const name of existsSync(kernels) ? readdirSync(kernels) : [])
    if (name !== 'build') rmSync(join(kernels, name), { recursive: true });
  const built = join(root, 'kernels/build');
  cpSync(join(root, 'kernels'), kernels, {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => !path.startsWith(built),
  });
  // A link of an earlier time may lead to where nothing is any more.
  rmSync(join(copy, 'node_modules'), { force: true });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'addon-only': { type: 'boolean', default: false } },
});
const config = ['--config', 'configs/vitest.config.ts'];
if (!values['addon-only'])
  run(
    root,
    process.execPath,
    vitest(...config, 'test/kernels/address-sanitizer.slow', 'test/kernels/thread-sanitizer.slow'),
  );

const { stdout = '' } = spawnSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' });
const runtime = stdout.trim();
if (!existsSync(runtime)) {
  console.error(`sanitize: ${compiler} has no libasan.so; the addon is not tested under AddressSanitizer`);
  process.exit(0);
}
makeCopy();
run(copy, process.execPath, ['scripts/build-native.mjs'], {
  CXXFLAGS: `${SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g1`,
  LDFLAGS: SANITIZE,
});
const tests = positionals.length > 0 ? positionals : ADDON_TESTS;
run(copy, process.execPath, vitest(...config, '--project', 'quick', ...tests), {
  LD_PRELOAD: runtime,
  ASAN_OPTIONS: 'detect_leaks=0',
});
