import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import { openSession } from '../../src/runtime/session.ts';
import type { Session, WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { compileSources } from '../helpers/compile-sources.ts';
import { LONG_TOKENS, LONG_WIDTH, longGraph } from './long-graph.ts';
import { pattern, temporaryFolder, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

const open: { dispose(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.dispose()));
});

interface Loaded {
  file: string;
  store: WeightStore;
  session: Session;
  /** Runs the graph on a few tokens, or on so many that it takes seconds. */
  run: (tokens?: number) => Promise<Tensor['data'] | undefined>;
}

/** A graph over one matrix in a file of its own, one megabyte long. */
async function load(nodes = 1, file = join(folder, `${Math.random()}.safetensors`)): Promise<Loaded> {
  const tensor = { name: 'big', shape: [LONG_WIDTH, LONG_WIDTH], values: pattern(LONG_WIDTH ** 2) };
  const store = openWeightStore(writeTensors(file, [tensor]));
  const session = await openSession(longGraph(store.handle('big'), nodes), { store, threads: 2 });
  open.push(session, store);
  const run = async (tokens = 2) => {
    const x = new Tensor('float32', pattern(tokens * LONG_WIDTH, 5), [tokens, LONG_WIDTH]);
    return (await session.run({ x }, { y: null })).y?.data;
  };
  return { file, store, session, run };
}

/** Waits for what rejects, and holds its error against what it should say. */
async function expectNamed(run: Promise<unknown>, file: string, change: RegExp): Promise<void> {
  const error: Error = await run.then(
    () => expect.fail('the run was answered'),
    (fault) => fault,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error.message).toContain(`${file} changed while a model was using it: `);
  expect(error.message).toMatch(change);
  expect(error.message).toMatch(/Load the model again/);
}

const later = (file: string) => utimesSync(file, new Date(), new Date(Date.now() + 60_000));
const changes: [string, (file: string) => void, RegExp][] = [
  ['is cut short', (file) => truncateSync(file, 5000), /it had 1048577 bytes, now it has 5000/],
  ['is emptied', (file) => truncateSync(file, 0), /now it has 0/],
  ['grows', (file) => appendFileSync(file, 'more'), /now it has 1048581/],
  ['is overwritten by a shorter one', (file) => writeFileSync(file, 'short'), /now it has 5/],
  [
    'is overwritten by one of the same size',
    (file) => {
      const other = `${file}.other`;
      writeFileSync(other, new Uint8Array(readFileSync(file).length));
      copyFileSync(other, file);
      later(file);
    },
    /it was written to/,
  ],
];

const exchanges: [string, (file: string) => void][] = [
  ['is removed', (file) => rmSync(file)],
  [
    'has another renamed over it',
    (file) => {
      writeFileSync(`${file}.new`, 'short');
      renameSync(`${file}.new`, file);
    },
  ],
];

describe.runIf(process.platform === 'win32')('a file of weights on Windows', () => {
  it.each([...changes.map(([name, change]) => [name, change] as const), ...exchanges])(
    'is not one that %s, until the model is gone',
    async (_, change) => {
      const { file, run, session, store } = await load();
      const before = await run();
      expect(() => change(file)).toThrow(/EBUSY|EPERM|EACCES/);
      expect(await run()).toEqual(before);
      await session.dispose();
      store.dispose();
      change(file);
    },
  );

  it('is not opened while somebody writes to it', async () => {
    const { file, session, store } = await load();
    await session.dispose();
    store.dispose();
    const writer = openSync(file, 'a');
    try {
      await expect(load(1, file)).rejects.toThrow(/A program is writing to it: wait until it has closed it/);
    } finally {
      closeSync(writer);
    }
  });
});

describe.skipIf(process.platform === 'win32')('a file of weights that changes while it is mapped', () => {
  it.each(changes)('that %s fails every run from then on, and reads', async (_, change, words) => {
    const { file, store, run } = await load();
    await run();
    change(file);
    await expectNamed(run(), file, words);
    await expectNamed(run(), file, words);
    expect(() => store.readFloat32('big')).toThrow(CheckpointError);
  });

  it.each(exchanges)('that %s stays as it was', async (_, change) => {
    const { file, run } = await load();
    const before = await run();
    change(file);
    expect(await run()).toEqual(before);
  });

  it('may be cut short in the middle of a run, on several threads', async () => {
    const { file, run } = await load(60);
    // One after another, so that one runs when the file is cut, however long they take.
    const runOnAndOn = async (): Promise<never> => {
      for (;;) await run(LONG_TOKENS);
    };
    const running = expectNamed(runOnAndOn(), file, /now it has 0/);
    await new Promise((resolve) => setTimeout(resolve, 50));
    truncateSync(file, 0);
    await running;
  });

  it('fails every model that reads it, and no other', async () => {
    const one = await load();
    const two = await load(1, one.file);
    const other = await load();
    truncateSync(one.file, 100);
    for (const { run } of [one, two]) await expectNamed(run(), one.file, /now it has 100/);
    expect(await other.run()).toHaveLength(2 * LONG_WIDTH);
  });

  it('is whole again for who loads it anew', async () => {
    const one = await load();
    const before = await one.run();
    truncateSync(one.file, 100);
    await expectNamed(one.run(), one.file, /now it has 100/);
    const { run } = await load(1, one.file);
    expect(await run()).toEqual(before);
  });

  it('may be cut short while its pages are fetched ahead', async () => {
    const { file, store, run } = await load();
    for (let i = 0; i < 20; i++) {
      store.prefetch(['big']);
      truncateSync(file, i % 2 === 0 ? 0 : 1048577);
    }
    await expectNamed(run(), file, /it was written to|now it has 0|could not be read/);
  });
});

describe.skipIf(process.platform === 'win32')('SIGBUS from elsewhere', () => {
  /** Runs a script with a weight store open. */
  async function withStore(before: string, after: string) {
    const compiled = await compileSources('runtime');
    try {
      const file = join(folder, 'weights.bin');
      const tensors = writeTensors(file, [{ name: 'w', shape: [2], values: pattern(2) }]);
      const store = pathToFileURL(join(compiled.folder, 'runtime', 'weight-store.js')).href;
      const script = `
        ${before}
        const { openWeightStore } = await import(${JSON.stringify(store)});
        globalThis.store = openWeightStore(${JSON.stringify(tensors)});
        ${after}
        process.kill(process.pid, 'SIGBUS');
        await new Promise((resolve) => setTimeout(resolve, 100));`;
      return spawnSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' });
    } finally {
      await compiled.remove();
    }
  }

  it('ends the process as ever', async () => {
    expect(await withStore('', '')).toMatchObject({ status: null, signal: 'SIGBUS' });
  });

  it('reaches a handler that was there before', async () => {
    const handler = `process.on('SIGBUS', () => { console.log('handled'); process.exit(3); });`;
    expect(await withStore(handler, '')).toMatchObject({ status: 3, stdout: 'handled\n' });
  });
});
