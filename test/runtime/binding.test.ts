import { execFile } from 'node:child_process';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineVersion } from '../../src/runtime/binding.ts';
import { cpuInfo, measureFlops, measureReadBandwidth } from '../../src/runtime/machine.ts';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const addon = join(root, 'kernels', 'build', 'switchyard.node');
const run = promisify(execFile);

let compiled: CompiledSources | undefined;
beforeAll(async () => {
  compiled = await compileSources('runtime');
});
afterAll(() => compiled?.remove());

/** Loads the engine in a process of its own; resolves to its ISA and version, or the error's name and message. */
async function load(environment: Record<string, string>): Promise<string> {
  const module = (name: string) =>
    JSON.stringify(pathToFileURL(join(compiled?.folder ?? '', 'runtime', name)).href);
  const script = `
    const { engineVersion } = await import(${module('binding.js')});
    const { cpuInfo } = await import(${module('machine.js')});
    try { console.log(engineVersion(), cpuInfo().isa); } catch (error) { console.log(error.name + ': ' + error.message); }
  `;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
    env: { ...process.env, ...environment },
  });
  return stdout.trim();
}

describe('the engine', () => {
  it('is the ONNX Runtime that onnxruntime-node ships', () => {
    const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as {
      version: string;
    };
    expect(engineVersion()).toBe(version);
  });

  it('names the instruction set in use, which is one of the features', () => {
    const { isa, features } = cpuInfo();
    expect(features).toContain(isa);
    expect(features).toContain('portable');
  });

  it('measures the machine', async () => {
    const bandwidth = await measureReadBandwidth({ bytes: 2 ** 20, seconds: 0.01, threads: 2 });
    expect(bandwidth.gigabytesPerSecond).toBeGreaterThan(0);
    expect(bandwidth.pattern).not.toBe('');
    expect(await measureFlops('bfloat16', { seconds: 0.01, threads: 2 })).toBeGreaterThan(0);
    expect(await measureFlops('float32', { seconds: 0.01, threads: 1 })).toBeGreaterThan(0);
  });
});

describe('loading', () => {
  it('follows SWITCHYARD_CPU_ISA, and refuses a name it does not know', async () => {
    expect(await load({ SWITCHYARD_CPU_ISA: 'portable' })).toBe(`${engineVersion()} portable`);
    expect(await load({ SWITCHYARD_CPU_ISA: 'abacus' })).toMatch(/^EngineError: .*abacus/);
  });

  it('names a library that does not exist, and the variable that names it', async () => {
    const message = await load({ SWITCHYARD_ONNXRUNTIME: '/nowhere/libonnxruntime.so' });
    expect(message).toMatch(
      /^EngineError: .*there is no \/nowhere\/libonnxruntime\.so.*SWITCHYARD_ONNXRUNTIME/,
    );
  });

  it('refuses a library that is not ONNX Runtime, and a file that is no library', async () => {
    expect(await load({ SWITCHYARD_ONNXRUNTIME: addon })).toMatch(/^EngineError: .*it has no OrtGetApiBase/);
    const text = join(compiled?.folder ?? '', 'text.so');
    writeFileSync(text, 'not a library');
    expect(await load({ SWITCHYARD_ONNXRUNTIME: text })).toMatch(
      /^EngineError: cannot open ONNX Runtime: .*text\.so/,
    );
  });

  it('says how to build an addon that is missing', async () => {
    const copy = await compileSources('runtime');
    const whole = compiled;
    try {
      rmSync(join(copy.folder, '..', 'kernels'));
      compiled = copy;
      expect(await load({})).toMatch(/^EngineError: the package is incomplete: .*npx moe-switchyard build/);
    } finally {
      compiled = whole;
      await copy.remove();
    }
  });
});

describe('scripts/build-native.mjs', () => {
  const build = (environment: Record<string, string> = {}) =>
    run(process.execPath, [join(root, 'scripts', 'build-native.mjs')], {
      env: { ...process.env, ...environment },
    });

  it('does nothing when nothing has changed', async () => {
    await build();
    const before = statSync(addon).mtimeMs;
    const { stderr } = await build();
    expect(stderr).toBe('');
    expect(statSync(addon).mtimeMs).toBe(before);
  });

  it('names the compilers it tried and how to install one', async () => {
    const failure = await build({ CXX: '/nowhere/c++' }).catch(
      (error: { code: number; stderr: string }) => error,
    );
    expect(failure).toMatchObject({ code: 1 });
    expect(failure.stderr).toMatch(
      /needs a C\+\+20 compiler; tried \/nowhere\/c\+\+ without success: install/,
    );
  });
});
