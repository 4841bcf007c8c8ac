import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { faultsOf } from '../../scripts/release/checks.mjs';
import { targetNames, targetRecipe } from '../../scripts/release/targets.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const exec = promisify(execFile);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-release-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Compiles a shared library from C++ and resolves to its path. */
async function library(name: string, source: string, ...flags: string[]): Promise<string> {
  const file = join(folder, `${name}.cc`);
  const output = join(folder, `${name}.so`);
  writeFileSync(file, source);
  await exec('c++', ['-std=c++20', '-shared', '-fPIC', file, '-o', output, ...flags]);
  return output;
}

test('no native source wants what clang does not link with the libstdc++ of mingw-w64', () => {
  const kernels = join(root, 'kernels');
  const sources = readdirSync(kernels, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /^(?!build|test).*\.(cc|h)$/.test(path),
  );
  expect(sources.length).toBeGreaterThan(100);
  // They share thread-local variables, of which the two have different kinds.
  const code = (path: string) => readFileSync(join(kernels, path), 'utf8').replaceAll(/\/\/.*/g, '');
  expect(sources.filter((path) => /\bcall_once\b|\bonce_flag\b/.test(code(path)))).toEqual([]);
});

describe.runIf(process.platform === 'linux')('checks of native files', () => {
  const EXPORTS = `
    extern "C" void napi_register_module_v1() {}
    extern "C" int node_api_module_get_api_version_v1() { return 8; }`;

  test('pass a file that takes nothing from this machine', async () => {
    const sound = await library('sound', EXPORTS, '-s', '-nodefaultlibs', '-lc');
    expect(faultsOf(sound, 'switchyard.node')).toEqual([]);
  });

  test('name what ties a file to this machine, and what leaves it unasked', async () => {
    const source = `#include <string>
      void missing();
      std::string leaked() { missing(); return std::string(100, 'x'); }${EXPORTS}`;
    const file = await library('tied', source, '-Wl,-rpath,/opt/cuda', '-lcrypt', '-Wl,--no-as-needed');
    const faults = faultsOf(file, 'switchyard.node').join('\n');
    expect(faults).toMatch(/comes from this machine's libstdc\+\+/);
    expect(faults).toMatch(/nobody has _Z7missingv/);
    expect(faults).toMatch(/exports .*leaked/);
    expect(faults).toMatch(/needs libstdc\+\+\.so\.6/);
    expect(faults).toMatch(/has RUNPATH \/opt\/cuda/);
    expect(faults).toMatch(/is not stripped/);
  });

  test('find the addon that was built for this machine alone unfit for others', () => {
    expect(faultsOf(join(root, 'kernels/build/switchyard.node'), 'switchyard.node')).not.toEqual([]);
  });
});

describe('scripts/build-native.mjs --target', () => {
  const build = (...args: string[]) =>
    exec(process.execPath, [join(root, 'scripts/build-native.mjs'), ...args]).catch((error) => error);

  test('knows the machines of releases, each with a compiler of its own', () => {
    expect(targetNames).toEqual(['linux-x64', 'linux-arm64', 'win32-x64']);
    const compilers = targetNames.map((name) => targetRecipe(name, '/out').compilerName);
    expect(new Set(compilers).size).toBe(targetNames.length);
    expect(targetRecipe('linux-arm64', '/out').target).toBe('/out/linux-arm64/switchyard.node');
  });

  test.each([
    [['--target', 'plan9-x64'], /--target is "plan9-x64"; expected one of linux-x64, linux-arm64, win32-x64/],
    [['--out', '/nowhere'], /--out goes with --target/],
    [['--fast'], /Unknown option '--fast'/],
  ])('%j is refused', async (args, message) => {
    const failure = await build(...args);
    expect(failure).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
  });
});

test.runIf(process.platform === 'linux')(
  'the stand-in for pthread_cond_clockwait waits by the clock it is given',
  async () => {
    const program = join(folder, 'clockwait');
    const source = join(folder, 'clockwait.cc');
    writeFileSync(
      source,
      `#include <cerrno>
     #include <pthread.h>
     #include <time.h>
     int main() {
       pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
       pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
       timespec until{}, after{};
       clock_gettime(CLOCK_MONOTONIC, &until);
       until.tv_nsec += 20'000'000;
       if (until.tv_nsec >= 1'000'000'000) { until.tv_sec += 1; until.tv_nsec -= 1'000'000'000; }
       pthread_mutex_lock(&mutex);
       int status = 0;
       while (status == 0) status = pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &until);
       clock_gettime(CLOCK_MONOTONIC, &after);
       const bool early = after.tv_sec < until.tv_sec || (after.tv_sec == until.tv_sec && after.tv_nsec < until.tv_nsec - 1'000'000);
       return status == ETIMEDOUT && !early ? 0 : 1;
     }`,
    );
    await exec('c++', [
      '-std=c++20',
      source,
      join(root, 'scripts/release/glibc-shim.cc'),
      '-pthread',
      '-o',
      program,
    ]);
    await exec(program);
  },
);
