import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { libc } from '../../src/runtime/libc.ts';
import {
  ADDON,
  findNativeFile,
  missingAddon,
  type Platform,
  platformFault,
  unloadableAddon,
} from '../../src/runtime/native-files.ts';

const LINUX: Platform = { platform: 'linux', arch: 'x64', libc: { name: 'glibc', version: '2.36' } };
const WINDOWS = { platform: 'win32', arch: 'x64', libc: undefined };
const MAC: Platform = { platform: 'darwin', arch: 'arm64', libc: undefined };
const ALPINE: Platform = { ...LINUX, libc: { name: 'musl', version: undefined } };
const OLD: Platform = { ...LINUX, libc: { name: 'glibc', version: '2.17' } };

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'switchyard-native-files-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(...path: string[]): string {
  const file = join(root, ...path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, '');
  return file;
}

describe('of the native files', () => {
  const here = `${process.platform}-${process.arch}`;

  test('one compiled here wins, then the one shipped for this platform; of none the place is told', () => {
    const compiled = join(root, 'kernels', 'build', ADDON);
    expect(findNativeFile(ADDON, root)).toEqual({ path: compiled, origin: 'missing' });
    put('prebuilds', 'other-cpu', ADDON);
    expect(findNativeFile(ADDON, root).origin).toBe('missing');
    const prebuilt = put('prebuilds', here, ADDON);
    expect(findNativeFile(ADDON, root)).toEqual({ path: prebuilt, origin: 'prebuilt' });
    put('kernels', 'build', ADDON);
    expect(findNativeFile(ADDON, root)).toEqual({ path: compiled, origin: 'compiled' });
  });
});

describe('a platform', () => {
  test.each([
    ['with a glibc that is new enough', LINUX],
    ['whose version has more digits', { ...LINUX, libc: { name: 'glibc', version: '2.100' } as const }],
    ['without libc versions', MAC],
  ])('%s has no fault', (_, platform) => {
    expect(platformFault(platform)).toBeUndefined();
  });

  test.each([
    ['musl', ALPINE, /cannot run on musl.*no ONNX Runtime for it.*node:22-bookworm-slim/],
    ['an old glibc', OLD, /cannot run on glibc 2\.17: ONNX Runtime needs 2\.28 or newer.*Debian 10/],
    ['another processor', { ...LINUX, arch: 'ppc64' }, /runs on linux-x64, .*, not on linux-ppc64/],
  ])('with %s is refused, with what helps and without advice to compile', (_, platform, words) => {
    expect(platformFault(platform)).toMatch(words);
    const cause = new Error('not loaded');
    for (const text of [
      missingAddon(root, platform),
      unloadableAddon({ path: '/x', origin: 'prebuilt' }, root, cause, platform),
    ]) {
      expect(text).toMatch(words);
      expect(text).not.toMatch(/[cC]ompile/);
    }
  });
});

describe('where there is no addon', () => {
  test('the package is incomplete on a platform that it has one for', () => {
    expect(missingAddon(root, LINUX)).toMatch(
      /^the package is incomplete: there is no .*prebuilds.linux-x64.switchyard\.node\. Install moe-switchyard again\. Or: Compile it .* npx moe-switchyard build$/,
    );
  });

  test('a Mac compiles it', () => {
    expect(missingAddon(root, MAC)).toMatch(
      /for darwin-arm64 the package brings none so far\. Compile it \(.*xcode-select --install.*\) with: npx moe-switchyard build$/,
    );
  });

  test('on Windows the package is all there is', () => {
    expect(missingAddon(root, WINDOWS)).toMatch(
      /^the package is incomplete: there is no .*win32-x64.switchyard\.node\. Install moe-switchyard again\.$/,
    );
  });

  test('a clone builds it', () => {
    put('src', 'index.ts');
    expect(missingAddon(root, LINUX)).toMatch(/is not built: .* with: npm run build:native$/);
    expect(missingAddon(root, WINDOWS)).toMatch(/ on Linux with: .* --target win32-x64 --out prebuilds$/);
  });
});

test('an addon that does not load is named with its system, the reason and the way out', () => {
  const cause = new Error('libgcc_s.so.1: cannot open shared object file');
  expect(unloadableAddon({ path: '/p/switchyard.node', origin: 'prebuilt' }, root, cause, LINUX)).toMatch(
    /^the prebuilt native engine \/p\/switchyard\.node does not load on linux x64, glibc 2\.36, Node v\S+: libgcc_s\.so\.1: .* npx moe-switchyard build$/,
  );
});

test('on Windows an addon that does not load is to be installed again', () => {
  const cause = new Error('The specified module could not be found');
  expect(
    unloadableAddon({ path: 'C:\\p\\switchyard.node', origin: 'prebuilt' }, root, cause, WINDOWS),
  ).toMatch(
    /does not load on win32 x64, Node v\S+: The specified module could not be found\. Install moe-switchyard again$/,
  );
});

test.runIf(process.platform === 'linux')('the C library of this process is told', () => {
  expect(libc()).toEqual({ name: 'glibc', version: expect.stringMatching(/^2\.\d+$/) });
});
