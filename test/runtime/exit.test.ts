import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';
import { LONG_TOKENS, LONG_WIDTH, longGraph } from './long-graph.ts';
import { temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
let compiled: CompiledSources | undefined;

beforeAll(async () => {
  compiled = await compileSources('runtime');
  const weights = join(folder, 'weights.bin');
  const tensors = writeTensors(weights, [
    { name: 'big', shape: [LONG_WIDTH, LONG_WIDTH], values: new Float32Array(LONG_WIDTH ** 2) },
  ]);
  // In a process of its own the first store has id 1, its only tensor handle 0; `check` in the script makes sure.
  writeFileSync(join(folder, 'model.onnx'), longGraph(0));
  writeFileSync(join(folder, 'tensors.json'), JSON.stringify(tensors));
});
afterAll(async () => {
  await compiled?.remove();
  remove();
});

/** Module text that starts a run of many seconds as `run`, then does `body`. */
function script(body: string): string {
  const module = (name: string) =>
    JSON.stringify(pathToFileURL(join(compiled?.folder ?? '', 'runtime', name)).href);
  return `
    import { readFileSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    const { openWeightStore } = await import(${module('weight-store.js')});
    const { openSession } = await import(${module('session.js')});
    const { Tensor } = await import(${module('ort.js')});
    const read = (name) => readFileSync(${JSON.stringify(`${folder}/`)} + name);
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    async function startRun(options) {
      const store = openWeightStore(JSON.parse(read('tensors.json')));
      if (store.handle('big') !== 0) throw new Error('an unexpected handle');
      const session = await openSession(read('model.onnx'), { store, threads: 2 });
      const x = new Tensor('float32', new Float32Array(${LONG_TOKENS * LONG_WIDTH}), [${LONG_TOKENS}, ${LONG_WIDTH}]);
      const run = session.run({ x }, { y: null }, options);
      run.then(() => console.log('the run ended by itself'), () => {});
      await pause(50);
      return { store, session, run };
    }
    ${body}
  `;
}

interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs a script as a process; `onOutput` sees what it has printed so far. */
function runScript(
  body: string,
  onOutput: (stdout: string, child: ChildProcess) => void = () => {},
): Promise<Ending> {
  const path = join(folder, `script-${Math.random()}.mjs`);
  writeFileSync(path, script(body));
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      onOutput(stdout, child);
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Starts a run in a worker and tells the main thread. `body` follows in the worker. */
const worker = (body: string) => `
  import { isMainThread, parentPort } from 'node:worker_threads';
  import { fileURLToPath } from 'node:url';
  if (!isMainThread) {
    const { session, store, run } = await startRun();
    parentPort.postMessage('running');
    ${body}
  }
  const startWorker = async () => {
    const started = new Worker(fileURLToPath(import.meta.url));
    await new Promise((resolve, reject) => started.once('message', resolve).once('error', reject));
    return started;
  };
`;

describe('during a long run', () => {
  it('process.exit() ends the process with its code', async () => {
    const ending = await runScript(`await startRun(); process.exit(7);`);
    expect(ending).toEqual({ code: 7, signal: null, stdout: '', stderr: '' });
  });

  it('an uncaught error ends the process', async () => {
    const { code, stdout, stderr } = await runScript(`await startRun(); throw new Error('planned');`);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('planned');
  });

  it('SIGINT ends the process', async () => {
    const ending = await runScript(`await startRun(); console.log('running');`, (stdout, child) => {
      if (stdout === 'running\n') child.kill('SIGINT');
    });
    expect(ending).toEqual({ code: null, signal: 'SIGINT', stdout: 'running\n', stderr: '' });
  });

  it('a SIGINT handler may abort and leave in order', async () => {
    const body = `
      const controller = new AbortController();
      process.once('SIGINT', () => controller.abort());
      const { run } = await startRun({ signal: controller.signal });
      console.log('running');
      await run.catch((error) => console.log(error.name));
      process.exit(0);
    `;
    const ending = await runScript(body, (stdout, child) => {
      if (stdout === 'running\n') child.kill('SIGINT');
    });
    expect(ending).toEqual({ code: 0, signal: null, stdout: 'running\nAbortError\n', stderr: '' });
  });

  it('worker.terminate() ends the worker, and the engine stays usable', async () => {
    const body = `${worker('')}
      if (isMainThread) {
        await (await startWorker()).terminate();
        console.log('terminated');
        const store = openWeightStore(JSON.parse(read('tensors.json')));
        console.log(store.readFloat32('big').length);
      }
    `;
    const ending = await runScript(body);
    expect(ending).toEqual({ code: 0, signal: null, stdout: `terminated\n${LONG_WIDTH ** 2}\n`, stderr: '' });
  });

  it('process.exit() in a worker ends the worker only', async () => {
    const body = `${worker('process.exit(3);')}
      if (isMainThread) {
        const code = await new Promise((resolve) => startWorker().then((w) => w.once('exit', resolve)));
        console.log('worker left with', code);
      }
    `;
    const ending = await runScript(body);
    expect(ending).toEqual({ code: 0, signal: null, stdout: 'worker left with 3\n', stderr: '' });
  });

  it('process.exit() in the main thread ends a running worker too', async () => {
    const body = `${worker('')} if (isMainThread) { await startWorker(); process.exit(5); }`;
    expect(await runScript(body)).toEqual({ code: 5, signal: null, stdout: '', stderr: '' });
  });

  it('the process waits for a run nobody holds on to', async () => {
    const body = `
      const store = openWeightStore(JSON.parse(read('tensors.json')));
      const session = await openSession(read('model.onnx'), { store, threads: 1 });
      const x = new Tensor('float32', new Float32Array(0), [0, ${LONG_WIDTH}]);
      session.run({ x }, { y: null }).then(({ y }) => console.log('rows', y.dims[0]));
    `;
    expect(await runScript(body)).toEqual({ code: 0, signal: null, stdout: 'rows 0\n', stderr: '' });
  });
});

describe('while weights are being kept in memory', () => {
  /** Would take half a minute of processor time. */
  const PIN = `
    const store = openWeightStore(JSON.parse(read('tensors.json')));
    store.pin(new Array(1_000_000).fill({ name: 'big', index: 0, count: 1 })).catch(() => {});
  `;

  it('worker.terminate() ends the worker', async () => {
    const body = `
      import { isMainThread, parentPort } from 'node:worker_threads';
      import { fileURLToPath } from 'node:url';
      if (!isMainThread) {
        ${PIN}
        parentPort.postMessage('pinning');
      } else {
        const worker = new Worker(fileURLToPath(import.meta.url));
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
        console.log(process.cpuUsage().user + process.cpuUsage().system < 10e6 ? 'at once' : 'after all');
      }
    `;
    expect(await runScript(body)).toEqual({ code: 0, signal: null, stdout: 'at once\n', stderr: '' });
  });

  it('process.exit() ends the process', async () => {
    const ending = await runScript(`${PIN} process.exit(7);`);
    expect(ending).toEqual({ code: 7, signal: null, stdout: '', stderr: '' });
  });
});

describe('with nothing running', () => {
  it('a process with an open session ends by itself', async () => {
    const body = `
      const store = openWeightStore(JSON.parse(read('tensors.json')));
      await openSession(read('model.onnx'), { store, threads: 2 });
      console.log('opened');
    `;
    expect(await runScript(body)).toEqual({ code: 0, signal: null, stdout: 'opened\n', stderr: '' });
  });

  it('a worker that loaded the engine first may end before the main thread loads it', async () => {
    const body = `
      import { isMainThread } from 'node:worker_threads';
      import { fileURLToPath } from 'node:url';
      if (isMainThread) {
        const worker = new Worker(fileURLToPath(import.meta.url));
        await new Promise((resolve) => worker.once('exit', resolve));
      }
      const store = openWeightStore(JSON.parse(read('tensors.json')));
      const graph = read('model.onnx');
      await (await openSession(graph, { store })).dispose();
      if (isMainThread) console.log('opened');
    `;
    expect(await runScript(body)).toEqual({ code: 0, signal: null, stdout: 'opened\n', stderr: '' });
  });
});
