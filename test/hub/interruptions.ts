import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';
import { FakeHub, type FakeRepo, type Fault, type Seen } from './fake-hub.ts';
import {
  expectedTree,
  expectNoPartialFile,
  QUICK,
  randomBytes,
  seededRandom,
  temporaryFolder,
  treeOf,
  useHub,
} from './helpers.ts';

const ID = 'acme/interrupted';
const CHILD = fileURLToPath(new URL('download-child.mjs', import.meta.url));

let hub: FakeHub;
let compiled: CompiledSources;
const data = seededRandom(4);
const repo: FakeRepo = {
  commit: 'abcdefabcdefabcdefabcdefabcdefabcdefabcd',
  files: {
    'config.json': { bytes: Buffer.from('{"model_type":"qwen3_moe"}') },
    'model.safetensors.index.json': { bytes: randomBytes(data, 20_000) },
    'model-00001-of-00004.safetensors': { bytes: randomBytes(data, 150_000), kind: 'lfs' },
    'model-00002-of-00004.safetensors': { bytes: randomBytes(data, 80_000), kind: 'xet' },
    'model-00003-of-00004.safetensors': { bytes: randomBytes(data, 8192), kind: 'lfs' },
    'model-00004-of-00004.safetensors': { bytes: randomBytes(data, 1), kind: 'xet' },
  },
};
const NAMES = Object.keys(repo.files);
const TOTAL = Object.values(repo.files).reduce((sum, { bytes }) => sum + bytes.length, 0);

beforeAll(async () => {
  [hub, compiled] = await Promise.all([FakeHub.start(), compileSources('hub')]);
});
afterAll(async () => {
  await hub.stop();
  await compiled.remove();
});
beforeEach(() => {
  hub.reset();
  hub.repos.set(ID, repo);
});

/** Calls `interrupt` once the hub has sent `bytes` bytes of files in all. */
function atByte(bytes: number, interrupt: () => void): (seen: Seen) => Fault | undefined {
  let total = 0;
  let done = false;
  return ({ place, range }) => {
    if (place === 'api' || range === 'bytes=0-0') return undefined;
    let counted = 0;
    return {
      onBytes: (sent) => {
        total += sent - counted;
        counted = sent;
        if (total < bytes || done) return;
        done = true;
        interrupt();
      },
    };
  };
}

/** Nothing half is visible now; one more try without faults completes the cache, byte for byte. */
async function expectRecovery(cache: string): Promise<void> {
  await expectNoPartialFile(cache, ID, repo);
  const base = join(cache, 'models--acme--interrupted/snapshots', repo.commit);
  for (const name of NAMES) {
    const visible = await readFile(join(base, name)).catch(() => undefined);
    if (visible) expect(visible.equals(repo.files[name]?.bytes as Buffer), name).toBe(true);
  }
  hub.reset();
  await (await resolveRepo(ID, {}, QUICK)).requireAll(NAMES);
  expect(await treeOf(cache)).toEqual(expectedTree(ID, repo, NAMES));
}

/** Interrupts downloads so often in each of three ways. */
export function testInterruptions({ cuts, aborts, kills }: Record<'cuts' | 'aborts' | 'kills', number>) {
  describe('an interrupted download of several shards ends in a byte-identical cache after a retry', () => {
    test(`${cuts} connections cut at random places`, async () => {
      const random = seededRandom(11);
      let resumed = 0;
      for (let trial = 0; trial < cuts; trial++) {
        const cache = await temporaryFolder();
        useHub(hub, cache);
        hub.reset();
        const victim = NAMES[Math.floor(random() * NAMES.length)] as string;
        const cutAfter = Math.floor(random() * (repo.files[victim]?.bytes.length as number));
        const places = ['resolve', 'storage'];
        hub.fault = ({ place, path, range }) =>
          places.includes(place) && path === victim && range !== 'bytes=0-0' ? { cutAfter } : undefined;
        const opened = await resolveRepo(ID, {}, { ...QUICK, retries: 0 });
        await opened.requireAll(NAMES).catch(() => {});
        hub.fault = () => undefined;
        hub.log.length = 0;
        await expectRecovery(cache);
        resumed += hub.transfers().filter(({ range }) => range !== undefined).length;
      }
      expect(resumed).toBeGreaterThan(0);
    });

    test(`${aborts} aborts by the caller at random moments`, async () => {
      const random = seededRandom(12);
      for (let trial = 0; trial < aborts; trial++) {
        const cache = await temporaryFolder();
        useHub(hub, cache);
        hub.reset();
        const abort = new AbortController();
        hub.fault = atByte(random() * TOTAL, () => abort.abort());
        const opened = await resolveRepo(ID, { signal: abort.signal }, QUICK);
        await opened.requireAll(NAMES).catch(() => {});
        await expectRecovery(cache);
      }
    });

    test(`${kills} processes killed with SIGKILL at random moments`, async () => {
      const random = seededRandom(13);
      let killed = 0;
      for (let trial = 0; trial < kills; trial++) {
        const cache = await temporaryFolder();
        useHub(hub, cache);
        hub.reset();
        let child: ChildProcess;
        hub.fault = atByte(random() * TOTAL, () => child.kill('SIGKILL'));
        child = spawn(
          process.execPath,
          [CHILD, join(compiled.folder, 'hub/repo/resolve-repo.js'), ID, ...NAMES],
          { stdio: 'ignore' },
        );
        const [, signal] = await once(child, 'exit');
        if (signal === 'SIGKILL') killed++;
        await expectRecovery(cache);
      }
      expect(killed).toBeGreaterThan(kills / 2);
    });
  });

  test('two processes and this one fetch a model together, each byte once', async () => {
    const cache = await temporaryFolder();
    useHub(hub, cache);
    const children = [0, 1].map(() =>
      spawn(process.execPath, [CHILD, join(compiled.folder, 'hub/repo/resolve-repo.js'), ID, ...NAMES], {
        stdio: 'ignore',
      }),
    );
    const own = [0, 1].map(async () => (await resolveRepo(ID, {}, QUICK)).requireAll(NAMES));
    const exits = await Promise.all(children.map((child) => once(child, 'exit')));
    await Promise.all(own);
    expect(exits.map(([code]) => code)).toEqual([0, 0]);
    expect(await treeOf(cache)).toEqual(expectedTree(ID, repo, NAMES));
    expect(hub.transfers().reduce((sum, { sent }) => sum + sent, 0)).toBe(TOTAL);
  });
}
