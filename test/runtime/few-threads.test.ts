import { execFile } from 'node:child_process';
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';
import { LONG_WIDTH, longGraph } from './long-graph.ts';
import { temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();

/** A control group of our own that bounds processes and threads; undefined where none may be made. */
function makeGroup(): string | undefined {
  for (const root of ['/sys/fs/cgroup/pids', '/sys/fs/cgroup']) {
    const group = join(root, `switchyard-${process.pid}`);
    try {
      mkdirSync(group);
      writeFileSync(join(group, 'pids.max'), '1000');
      return group;
    } catch {
      rmSync(group, { force: true, recursive: true });
    }
  }
  return undefined;
}
const group = makeGroup();

let compiled: CompiledSources;
beforeAll(async () => {
  compiled = await compileSources('runtime');
  const values = new Float32Array(LONG_WIDTH ** 2);
  const tensors = writeTensors(join(folder, 'weights.bin'), [
    { name: 'big', shape: [LONG_WIDTH, LONG_WIDTH], values },
  ]);
  writeFileSync(join(folder, 'model.onnx'), longGraph(0, 4));
  writeFileSync(join(folder, 'tensors.json'), JSON.stringify(tensors));
});
afterAll(async () => {
  await compiled.remove();
  remove();
  if (group) rmdirSync(group);
});

interface Outcome {
  /** Rows of the answer, or the error's name and message. */
  result: string;
  warnings: string[];
}

/** Does `work` in a process that may have `spare` threads more than Node itself has. */
async function withThreads(spare: number, work: string): Promise<Outcome> {
  const module = (name: string) => JSON.stringify(pathToFileURL(join(compiled.folder, 'runtime', name)).href);
  const script = `
    import { readFileSync, writeFileSync } from 'node:fs';
    import { readFile } from 'node:fs/promises';
    const { measureReadBandwidth } = await import(${module('machine.js')});
    const { openWeightStore } = await import(${module('weight-store.js')});
    const { openSession } = await import(${module('session.js')});
    const { Tensor } = await import(${module('ort.js')});
    const read = (name) => readFileSync(${JSON.stringify(`${folder}/`)} + name);
    const warnings = [];
    process.on('warning', ({ message }) => warnings.push(message));
    await Promise.all([1, 2, 3, 4].map(() => readFile('/proc/self/status')));
    const has = Number(/^Threads:\\s*(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
    writeFileSync(${JSON.stringify(join(group as string, 'cgroup.procs'))}, String(process.pid));
    writeFileSync(${JSON.stringify(join(group as string, 'pids.max'))}, String(has + ${spare}));
    const store = openWeightStore(JSON.parse(read('tensors.json')));
    const session = async () => {
      const opened = await openSession(read('model.onnx'), { store, threads: 4 });
      const x = new Tensor('float32', new Float32Array(2 * ${LONG_WIDTH}), [2, ${LONG_WIDTH}]);
      store.prefetch(['big']);
      const { y } = await opened.run({ x }, { y: null });
      return y.dims[0];
    };
    const result = await (async () => { ${work} })().catch(({ name, message }) => name + ': ' + message);
    await new Promise(setImmediate);
    console.log(JSON.stringify({ result: String(result), warnings }));
    process.exit();`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  return JSON.parse(stdout);
}

describe.skipIf(!group)('where the system grants few threads (needs leave to make a control group)', () => {
  it('a session says what stands in the way when it cannot have any', async () => {
    const { result } = await withThreads(0, 'return session();');
    expect(result).toMatch(
      /^EngineError: no further thread can be started: .*ulimit -u.*pids\.max.*raise it/,
    );
  });

  it.each([1, 2, 3, 4, 5, 6])('%d are enough for sessions, which warn once', async (spare) => {
    const { result, warnings } = await withThreads(spare, 'await session(); return session();');
    expect(result).toBe('2');
    expect(warnings).toEqual([expect.stringMatching(/^a session has \d of 4 threads: .*option threads$/)]);
  });

  it('sessions have all they ask for where they may', async () => {
    expect(await withThreads(40, 'await session(); return session();')).toEqual({
      result: '2',
      warnings: [],
    });
  });

  it.each([1, 2, 40])('the machine is measured with %d', async (spare) => {
    const work =
      'return (await measureReadBandwidth({ bytes: 2 ** 20, seconds: 0.01, threads: 4 })).pattern;';
    expect((await withThreads(spare, work)).result).toMatch(/^[a-z]/);
  });
});
