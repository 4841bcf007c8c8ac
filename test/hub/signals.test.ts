/** Whatever is loaded ends with its signal, as an AbortError whose cause is the signal's reason. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { onAbort } from '../../src/errors.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { AbortError, AutoConfig, AutoProcessor, AutoTokenizer } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { FakeHub } from './fake-hub.ts';
import { QUICK, randomBytes, seededRandom, temporaryFolder, useHub, warningsOf } from './helpers.ts';

const ID = 'acme/tiny-moe';
const FOLDER = goldenModel('qwen3_vl_moe_e');
const reason = new Error('enough');
const NAMES = Array.from({ length: 24 }, (_, i) => `part-${i}.safetensors`);

let hub: FakeHub;
beforeAll(async () => {
  hub = await FakeHub.start();
  const random = seededRandom(1);
  const files = NAMES.map((name) => [name, { bytes: randomBytes(random, 9000), kind: 'lfs' as const }]);
  hub.repos.set(ID, {
    commit: 'a'.repeat(40),
    files: { 'config.json': { bytes: Buffer.from('{}') }, ...Object.fromEntries(files) },
  });
});
afterAll(() => hub.stop());
beforeEach(async () => {
  hub.reset();
  useHub(hub, await temporaryFolder());
});

async function expectAborted(work: Promise<unknown>): Promise<void> {
  await expect(work).rejects.toThrow(AbortError);
  await expect(work).rejects.toMatchObject({ cause: reason });
}

test.each([ID, FOLDER])('of a signal that has fired, nothing of %s is loaded', async (source) => {
  const options = { signal: AbortSignal.abort(reason) };
  await expectAborted(resolveRepo(source, options, QUICK));
  for (const auto of [AutoConfig, AutoTokenizer, AutoProcessor])
    await expectAborted(auto.fromPretrained(source, options));
  expect(hub.log).toEqual([]);
});

test.each(['folder', 'cache', 'hub'])(
  'a repo resolved earlier (%s) gives no file after it fired',
  async (kind) => {
    await (await resolveRepo(ID, {}, QUICK)).require('config.json');
    const controller = new AbortController();
    const { signal } = controller;
    const source = kind === 'folder' ? FOLDER : ID;
    const repo = await resolveRepo(source, { signal, localFilesOnly: kind === 'cache' }, QUICK);
    controller.abort(reason);
    await expectAborted(repo.file('config.json'));
    await expectAborted(repo.require('config.json'));
    await expectAborted(repo.requireAll(['config.json']));
  },
);

test('a signal that fires while tokenizer or config are read ends them', async () => {
  for (const auto of [AutoTokenizer, AutoProcessor]) {
    const controller = new AbortController();
    const loading = auto.fromPretrained(FOLDER, { signal: controller.signal });
    setImmediate(() => controller.abort(reason));
    await expectAborted(loading);
  }
});

test('one that fires in a pause between attempts ends the pause', async () => {
  const controller = new AbortController();
  hub.fault = () => {
    setTimeout(() => controller.abort(reason), 10);
    return { status: 503, headers: { 'retry-after': '100' } };
  };
  await expectAborted(resolveRepo(ID, { signal: controller.signal }, QUICK));
});

test('many loads on one signal are no leak, and leave no listener behind', async () => {
  const { signal } = new AbortController();
  const listeners = { added: 0, removed: 0 };
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners.added++;
    addEventListener.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners.removed++;
    removeEventListener.apply(signal, args);
  };
  const warnings = await warningsOf(() =>
    Promise.all(
      Array.from({ length: 40 }, async () => (await resolveRepo(ID, { signal }, QUICK)).requireAll(NAMES)),
    ),
  );
  expect(warnings).toEqual([]);
  expect(listeners.added).toBeGreaterThan(40);
  expect(listeners.removed).toBe(listeners.added);
});

test('a signal calls each listener once, and none that has left', async () => {
  const controller = new AbortController();
  const called: number[] = [];
  const warnings = await warningsOf(async () => {
    const stops = Array.from({ length: 40 }, (_, i) => onAbort(controller.signal, () => called.push(i)));
    for (const stop of stops.slice(2)) stop();
  });
  controller.abort();
  controller.abort();
  expect(called).toEqual([0, 1]);
  expect(warnings).toEqual([]);
  onAbort(undefined, () => called.push(2))();
});
