import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineStatus } from '../../src/runtime/engine-status.ts';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-status-'));
/** Makes the JavaScript of onnxruntime-node fail to load, as in a damaged installation. */
const breaker = join(folder, 'breaker.cjs');
let compiled: CompiledSources | undefined;
beforeAll(async () => {
  compiled = await compileSources('runtime');
  writeFileSync(
    breaker,
    `const Module = require('node:module');
     const load = Module._load;
     Module._load = (name, ...rest) => {
       if (name === 'onnxruntime-common') throw new Error('a file is missing');
       return load(name, ...rest);
     };`,
  );
});
afterAll(async () => {
  await compiled?.remove();
  rmSync(folder, { recursive: true });
});

/** `body` sees every module of the runtime that matters, in a process of its own, and prints JSON. */
async function inProcess(body: string, environment: Record<string, string>, flags: string[] = []) {
  const module = (name: string) =>
    JSON.stringify(pathToFileURL(join(compiled?.folder ?? '', 'runtime', name)).href);
  const script = `
    const { engineStatus } = await import(${module('engine-status.js')});
    const { openWeightStore } = await import(${module('weight-store.js')});
    const { Tensor } = await import(${module('ort.js')});
    await import(${module('session.js')});
    ${body}`;
  const args = [...flags, '--input-type=module', '--eval', script];
  const env = { ...process.env, ...environment };
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  return JSON.parse(stdout);
}
const status = (environment: Record<string, string>, flags?: string[]): Promise<EngineStatus> =>
  inProcess('console.log(JSON.stringify(engineStatus()));', environment, flags);

describe('engineStatus', () => {
  it('tells version, processor and file of an engine that works', async () => {
    const { addon, library, working, fault } = await status({});
    expect(addon.origin).toBe('compiled');
    expect(library).toMatchObject({ found: true, fromEnvironment: false });
    expect(library.installer).toMatch(/onnxruntime-node\/script\/install\.js$/);
    expect(working?.version).toMatch(/^1\.\d+\.\d+$/);
    expect(fault).toBeUndefined();
  });

  it('says what is wrong with the library that SWITCHYARD_ONNXRUNTIME names', async () => {
    const { library, working, fault } = await status({ SWITCHYARD_ONNXRUNTIME: breaker });
    expect(library).toMatchObject({ path: breaker, found: true, fromEnvironment: true });
    expect(working).toBeUndefined();
    expect(fault).toMatch(/cannot open ONNX Runtime: .*breaker\.cjs/);
  });

  it('says which instruction set is unknown', async () => {
    const { working, fault } = await status({ SWITCHYARD_CPU_ISA: 'mmx' });
    expect(working).toBeUndefined();
    expect(fault).toMatch(/SWITCHYARD_CPU_ISA/);
  });

  it('works without onnxruntime-node, and says so', async () => {
    const { working, fault } = await status({}, ['--require', breaker]);
    expect(working).toBeUndefined();
    expect(fault).toMatch(
      /^onnxruntime-node cannot be loaded: a file is missing\. Install it again with: npm install/,
    );
  });
});

it('without onnxruntime-node, whatever needs the engine says why it fails', async () => {
  const uses = ['new Tensor("float32", [1], [1])', 'openWeightStore([])'];
  const body = `
    const faults = [];
    for (const use of [${uses.map((use) => `() => ${use}`).join(', ')}]) {
      try { await use(); } catch ({ name, message }) { faults.push(name + ': ' + message); }
    }
    console.log(JSON.stringify(faults));`;
  const faults: string[] = await inProcess(body, {}, ['--require', breaker]);
  expect(faults).toHaveLength(uses.length);
  for (const fault of faults) expect(fault).toMatch(/^EngineError: onnxruntime-node cannot be loaded/);
});
