/** Workers that are ended in the middle of anything, all in one process. */
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { compileSources } from '../helpers/compile-sources.ts';
import { type FakeFile, FakeHub, type FakeRepo } from '../hub/fake-hub.ts';

const demo = fileURLToPath(new URL('../../configs/demo-model', import.meta.url));

/** What a worker does until it is ended; it tells when it has the library. */
const WORK = `
  const { parentPort, workerData } = require('node:worker_threads');
  (async () => {
    const { AutoModelForCausalLM } = await import(workerData.library);
    parentPort.postMessage('ready');
    const inputs = { inputIds: [[1, 2, 3]] };
    const uses = [
      (model) => model.generate({ ...inputs, maxNewTokens: 3 }),
      (model) => model.forward(inputs),
      (model) => model.compile({ mode: 'max-autotune', tokenCounts: [1, 2] }),
      () => {},
    ];
    for (let turn = workerData.turn; ; turn++) {
      const download = turn % 5 === 0;
      const model = await AutoModelForCausalLM.fromPretrained(download ? 'acme/demo' : workerData.model, {
        threads: 1,
        forceDownload: download,
      });
      const use = Promise.resolve(uses[turn % uses.length](model)).catch(() => {});
      if (turn % 3 > 0) await use;
      await model.dispose();
    }
  })();
`;

/** Three at a time, each up to a quarter of a second after it has the library. */
const MAIN = `
  import { Worker } from 'node:worker_threads';
  const [library, model, work, count] = process.argv.slice(2);
  let started = 0;
  const lane = async () => {
    while (started < Number(count)) {
      const worker = new Worker(work, { eval: true, workerData: { library, model, turn: started++ } });
      let fault;
      worker.on('error', (error) => { fault = error; });
      await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 250));
      await worker.terminate();
      if (fault) throw fault;
      process.stdout.write('.');
    }
  };
  await Promise.all([lane(), lane(), lane()]);
  // Nothing that they held is in anybody's way.
  const { AutoModelForCausalLM } = await import(library);
  await (await AutoModelForCausalLM.fromPretrained('acme/demo', { forceDownload: true })).dispose();
`;

/**
 * A fault of Node's own (20.20 has it): a worker that is terminated in the moment in which it enters a function of node:fs/promises
 * ends the process, whatever else it has loaded.
 */
const NODES_FAULT = /node::fs::[^\n]*\n[^\n]*Assertion failed: \(req_wrap\) != nullptr/;

/** The demo model as a hub has it. */
function demoRepo(): FakeRepo {
  const files = readdirSync(demo).map((name): [string, FakeFile] => {
    const bytes = readFileSync(join(demo, name));
    return [name, { bytes, kind: name.endsWith('.safetensors') ? 'lfs' : 'git' }];
  });
  return { commit: 'd'.repeat(40), files: Object.fromEntries(files) };
}

/** Ends `count` workers in one process, or in a further one after Node's fault. Resolves to how many ended; rejects when a process dies. */
export async function terminateWorkers(count: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-terminations-'));
  const [compiled, hub] = await Promise.all([compileSources('index.ts'), FakeHub.start()]);
  hub.repos.set('acme/demo', demoRepo());
  try {
    const script = join(folder, 'main.mjs');
    writeFileSync(script, MAIN);
    const env = {
      ...process.env,
      SWITCHYARD_CACHE: folder,
      HF_ENDPOINT: hub.url,
      HF_HUB_CACHE: join(folder, 'hub'),
      HF_HUB_OFFLINE: '',
    };
    const library = pathToFileURL(join(compiled.folder, 'index.js')).href;
    const run = (left: number) =>
      promisify(execFile)(process.execPath, [script, library, demo, WORK, String(left)], { env }).catch(
        (error: ExecFileException) => {
          if (NODES_FAULT.test(error.stderr ?? '')) return { stdout: `${error.stdout}.` };
          throw error;
        },
      );
    let ended = 0;
    while (ended < count) ended += (await run(count - ended)).stdout.length;
    return Math.min(ended, count);
  } finally {
    rmSync(folder, { recursive: true });
    await hub.stop();
    await compiled.remove();
  }
}
