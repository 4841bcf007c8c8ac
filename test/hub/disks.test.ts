/** Caches on disks that cannot do everything, or may not be written. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from 'vitest';
import { AbortError, HubError } from '../../src/errors.ts';
import { replaceFile } from '../../src/files.ts';
import { planRemoval, remove } from '../../src/hub/cache/remove.ts';
import { scanCache } from '../../src/hub/cache/scan.ts';
import { verifyFiles } from '../../src/hub/cache/verify.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { diskError } from '../../src/hub/transfer/disk-errors.ts';
import { etagOf, type FakeFile, FakeHub, type FakeRepo } from './fake-hub.ts';
import { literally, QUICK, randomBytes, seededRandom, startOver, treeOf, warningsOf } from './helpers.ts';

/** What the disk answers to some calls, instead of doing them. */
const disk = vi.hoisted(() => ({
  refuses: {} as Record<string, string>,
  below: '',
  free: undefined as number | undefined,
}));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const guarded = (name: string, call: (...args: never[]) => unknown) => {
    return async (...args: unknown[]) => {
      const code = disk.refuses[name];
      const path = args.find(
        (arg) => typeof arg === 'string' && disk.below !== '' && arg.startsWith(disk.below),
      );
      if (code === undefined || path === undefined) return call(...(args as never[]));
      throw Object.assign(new Error(`${code}: ${name} '${path}'`), { code, syscall: name, path });
    };
  };
  const names = ['symlink', 'link', 'mkdir', 'writeFile', 'open', 'rename', 'access', 'stat'] as const;
  const statfs = async (path: string) => {
    const found = await real.statfs(path);
    return disk.free === undefined ? found : { ...found, bsize: 1, bavail: disk.free };
  };
  const replaced = Object.fromEntries(names.map((name) => [name, guarded(name, real[name] as never)]));
  return { ...real, ...replaced, statfs };
});

const ID = 'acme/tiny-moe';
const COMMIT = '1234567890abcdef1234567890abcdef12345678';
const WEIGHTS = 'model.safetensors';
let hub: FakeHub;
let repo: FakeRepo;
let cache: string;

beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  repo = {
    commit: COMMIT,
    files: {
      'config.json': { bytes: Buffer.from('{"model_type":"qwen2_moe"}') },
      'sub/config.json': { bytes: Buffer.from('{}') },
      [WEIGHTS]: { bytes: randomBytes(seededRandom(1), 90_000), kind: 'lfs' },
    },
  };
  cache = await startOver(hub, { [ID]: repo });
  disk.below = cache;
});
afterEach(() => {
  disk.refuses = {};
  disk.free = undefined;
});

const names = () => Object.keys(repo.files);
const folder = (...parts: string[]) => join(cache, 'models--acme--tiny-moe', ...parts);
const fetchAll = async (options = {}) => (await resolveRepo(ID, options, QUICK)).requireAll(names());

test('a load that the disk has no room for ends before any byte of it is fetched', async () => {
  disk.free = 50_000;
  await expect(fetchAll()).rejects.toThrow(
    /^disk full: 3 files need 90\.0 kB more, and 50\.0 kB are free in .*Nothing was fetched; free some space/,
  );
  expect(hub.transfers()).toEqual([]);
});

test('what has arrived of a load needs no more room', async () => {
  const weights = repo.files[WEIGHTS] as FakeFile;
  await mkdir(folder('blobs'), { recursive: true });
  await writeFile(folder('blobs', `${etagOf(weights)}.incomplete`), weights.bytes.subarray(0, 60_000));
  disk.free = 50_000;
  await expectWhole(await fetchAll());
});

async function expectWhole(paths: readonly string[]): Promise<void> {
  for (const [i, name] of names().entries())
    expect((await readFile(paths[i] as string)).equals(repo.files[name]?.bytes as Buffer), name).toBe(true);
}

describe.each(['EPERM', 'ENOTSUP', 'EINVAL', 'ENOSYS'])(
  'a disk that answers %s to symbolic links',
  (code) => {
    describe.each([true, false])('and has hard links: %s', (hardLinks) => {
      beforeEach(() => {
        disk.refuses = { symlink: code, ...(!hardLinks && { link: code }) };
      });

      test('holds a cache that reads back, also offline', async () => {
        await expectWhole(await fetchAll());
        hub.reset();
        await expectWhole(await fetchAll());
        expect(hub.transfers()).toEqual([]);
        await expectWhole(await fetchAll({ localFilesOnly: true }));
        expect(Object.values(await treeOf(cache)).some((entry) => entry.startsWith('->'))).toBe(false);
        const { models } = await scanCache(cache);
        expect(models[0]?.revisions[0]).toMatchObject({ commit: COMMIT, files: 2 });
        for await (const report of verifyFiles(await resolveRepo(ID, {}, QUICK)))
          expect(report).toMatchObject({
            fault: undefined,
            hash: hardLinks ? expect.any(String) : undefined,
          });
      });

      test('another commit with the same files does not take them away', async () => {
        await fetchAll();
        hub.repos.set(ID, { ...repo, commit: 'e'.repeat(40) });
        await expectWhole(await fetchAll());
        await expectWhole(await fetchAll({ revision: COMMIT, localFilesOnly: true }));
        await remove(await planRemoval(ID, 'e'.repeat(40), cache));
        await expectWhole(await fetchAll({ revision: COMMIT, localFilesOnly: true }));
        await remove(await planRemoval(ID, undefined, cache));
        expect(await readdir(cache)).not.toContain('models--acme--tiny-moe');
      });

      test('several loads at once fetch each byte once', async () => {
        await Promise.all([fetchAll(), fetchAll(), fetchAll()]);
        expect(
          hub
            .transfers()
            .map(({ path }) => path)
            .sort(),
        ).toEqual(names().sort());
        expect(await readdir(join(cache, '.locks/models--acme--tiny-moe'))).toEqual([]);
      });

      test('a file is fetched again in place', async () => {
        await fetchAll();
        await expectWhole(await fetchAll({ forceDownload: true }));
      });
    });
  },
);

test('a cache with files instead of links, as huggingface_hub writes them on such disks, serves', async () => {
  for (const name of names()) {
    await mkdir(join(folder('snapshots', COMMIT), name, '..'), { recursive: true });
    await writeFile(folder('snapshots', COMMIT, name), repo.files[name]?.bytes as Buffer);
  }
  await mkdir(folder('refs'), { recursive: true });
  await writeFile(folder('refs/main'), `${COMMIT}\n`);
  await expectWhole(await fetchAll());
  await expectWhole(await fetchAll({ localFilesOnly: true }));
  expect(hub.transfers()).toEqual([]);
});

test('HF_HUB_DISABLE_SYMLINKS wants none where they could be', async () => {
  vi.stubEnv('HF_HUB_DISABLE_SYMLINKS', '1');
  await expectWhole(await fetchAll());
  expect(Object.values(await treeOf(cache)).some((entry) => entry.startsWith('->'))).toBe(false);
});

describe('a file that somebody has open on Windows', () => {
  beforeEach(async () => {
    await mkdir(cache, { recursive: true });
    await writeFile(join(cache, 'new'), 'new');
    await writeFile(join(cache, 'old'), 'old');
  });
  const replace = (platform: NodeJS.Platform) =>
    replaceFile(join(cache, 'new'), join(cache, 'old'), platform);

  test.each(['EPERM', 'EACCES', 'EBUSY'])('is replaced as soon as that is allowed (%s)', async (code) => {
    disk.refuses = { rename: code };
    const done = replace('win32');
    setTimeout(() => {
      disk.refuses = {};
    }, 15);
    await done;
    expect(await readFile(join(cache, 'old'), 'utf8')).toBe('new');
  });

  test('is left as it is where that stays forbidden, and other systems do not wait', async () => {
    disk.refuses = { rename: 'EBUSY' };
    await expect(replace('win32')).rejects.toThrow('EBUSY');
    expect(await readFile(join(cache, 'old'), 'utf8')).toBe('old');
    const refused = replace('linux');
    disk.refuses = {};
    await expect(refused).rejects.toThrow('EBUSY');
  });

  test('is what a failed download names', async () => {
    const refused = Object.assign(new Error(), { code: 'EBUSY', path: 'C:\\cache\\x', syscall: 'rename' });
    const error = (await diskError(refused, 'x', 'C:\\cache', 1, 'win32')) as Error;
    expect(error.message).toMatch(
      /^C:\\cache\\x cannot be written: a program has it open, .*\(EBUSY\)\. End what uses the model/,
    );
  });
});

test('of a hard link, its blob stays while another commit has it, and goes with the last', async () => {
  disk.refuses = { symlink: 'EPERM' };
  await fetchAll();
  hub.repos.set(ID, {
    ...repo,
    commit: 'e'.repeat(40),
    files: { ...repo.files, [WEIGHTS]: { bytes: Buffer.alloc(9), kind: 'lfs' } },
  });
  await (await resolveRepo(ID, {}, QUICK)).requireAll(names());
  const removal = await planRemoval(ID, COMMIT, cache);
  expect(removal.bytes).toBe(90_000);
  await remove(removal);
  const blobs = await readdir(folder('blobs'));
  expect(blobs).not.toContain(etagOf(repo.files[WEIGHTS] as never));
  expect(blobs).toContain(etagOf(repo.files['config.json'] as never));
});

describe.each(['EACCES', 'EROFS'])('a cache whose disk answers %s to every write', (code) => {
  const freeze = () => {
    disk.refuses = Object.fromEntries(
      ['symlink', 'link', 'mkdir', 'writeFile', 'open', 'rename', 'access'].map((name) => [name, code]),
    );
  };

  test('serves what it has, by branch and by commit, without a word', async () => {
    await fetchAll();
    // Reading is allowed.
    freeze();
    delete disk.refuses.access;
    delete disk.refuses.open;
    const warnings = await warningsOf(async () => {
      for (const options of [{}, { revision: COMMIT }, { localFilesOnly: true }]) {
        const opened = await resolveRepo(ID, options, QUICK);
        await expectWhole(await opened.requireAll(names()));
        expect(await opened.file('generation_config.json')).toBeUndefined();
      }
    });
    expect(warnings).toEqual([]);
  });

  test('serves blobs whose links nobody could write', async () => {
    await fetchAll();
    await rm(folder('snapshots', COMMIT, WEIGHTS));
    freeze();
    delete disk.refuses.access;
    await expectWhole(await fetchAll());
  });

  test('stays on its commit when the branch has moved, and says so', async () => {
    await fetchAll();
    hub.repos.set(ID, { ...repo, commit: 'e'.repeat(40) });
    freeze();
    const warnings = await warningsOf(async () => {
      disk.refuses = { ...disk.refuses };
      const opened = await resolveRepo(ID, {}, QUICK);
      delete disk.refuses.access;
      expect(opened.commit).toBe(COMMIT);
      await expectWhole(await opened.requireAll(names()));
    });
    expect(warnings.join()).toMatch(
      /"main" of acme\/tiny-moe is now eeee.* cannot be written\. Using commit 1234/,
    );
  });

  test('says which folder cannot be written when something is missing', async () => {
    freeze();
    const failed = fetchAll();
    await expect(failed).rejects.toThrow(HubError);
    await expect(failed).rejects.toThrow(new RegExp(`${literally(cache)}.*${code}.*HF_HUB_CACHE`));
  });
});

test('where only locks cannot be written, downloads go on without', async () => {
  await mkdir(join(cache, '.locks'));
  disk.below = join(cache, '.locks');
  disk.refuses = {
    mkdir: 'EACCES',
    symlink: 'EACCES',
    writeFile: 'EACCES',
    access: 'EACCES',
    rename: 'EACCES',
  };
  await Promise.all([fetchAll(), fetchAll()]).then(([paths]) => expectWhole(paths));
  expect(Object.keys(await treeOf(cache)).filter((name) => /incomplete|temporary/.test(name))).toEqual([]);
});

test.each([
  ['ENOTDIR', /is no folder.*ENOTDIR/],
  ['ELOOP', /in a circle.*ELOOP/],
  ['ENAMETOOLONG', /too long.*ENAMETOOLONG/],
  ['EFBIG', /files that large.*EFBIG/],
  ['EDQUOT', /quota used up/],
  ['EIO', /disk reports a fault/],
  ['EXDEV', /cannot be written \(EXDEV\)/],
])('%s while a file is written is said with its place and a remedy', async (code, message) => {
  disk.refuses = { open: code };
  const failed = fetchAll();
  await expect(failed).rejects.toThrow(HubError);
  await expect(failed).rejects.toThrow(message);
  await expect(failed).rejects.toThrow(/HF_HUB_CACHE/);
});

test('a cache folder that is a file is named', async () => {
  const file = join(cache, 'file');
  await writeFile(file, '');
  const failed = fetchAll({ cacheDir: file });
  await expect(failed).rejects.toThrow(HubError);
  await expect(failed).rejects.toThrow(new RegExp(`${literally(file)}.* is no folder`));
});

test('a cache whose folder may not be searched says so, offline too', async () => {
  await fetchAll();
  disk.refuses = { stat: 'EACCES' };
  for (const options of [{}, { localFilesOnly: true }])
    await expect(fetchAll(options)).rejects.toThrow(/cannot be read: permission to read it is missing/);
});

const hasFlock = spawnSync('flock', ['--version']).status === 0 && existsSync('/proc/locks');

describe.skipIf(!hasFlock)('a process of huggingface_hub that fetches the same file', () => {
  const lock = () =>
    join(cache, '.locks/models--acme--tiny-moe', `${etagOf(repo.files[WEIGHTS] as never)}.lock`);
  const hold = async () => {
    await mkdir(join(cache, '.locks/models--acme--tiny-moe'), { recursive: true });
    const holder = spawn('flock', [lock(), 'sh', '-c', 'echo held; read line'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    onTestFinished(() => void holder.stdin.end());
    await once(holder.stdout, 'data');
    return holder;
  };

  test('is waited for, and what it fetched is used', async () => {
    const holder = await hold();
    const told: string[] = [];
    const waiting = fetchAll({
      onWarning: (message: string) => {
        told.push(message);
        // It finishes.
        writeFileSync(
          folder('blobs', etagOf(repo.files[WEIGHTS] as never)),
          repo.files[WEIGHTS]?.bytes as Buffer,
        );
        holder.stdin.end();
      },
    });
    await expectWhole(await waiting);
    expect(told.join()).toMatch(/waiting for process \d+, which is fetching model\.safetensors/);
    expect(hub.transfers().map(({ path }) => path)).not.toContain(WEIGHTS);
  });

  test('is not waited for once the caller has gone', async () => {
    await hold();
    const controller = new AbortController();
    const waiting = fetchAll({ signal: controller.signal, onWarning: () => controller.abort() });
    await expect(waiting).rejects.toThrow(AbortError);
  });

  test('leaves a lock behind that nobody holds, and a part that is continued', async () => {
    const holder = await hold();
    holder.stdin.end();
    await once(holder, 'exit');
    const part = `${folder('blobs', etagOf(repo.files[WEIGHTS] as never))}.incomplete`;
    await mkdir(folder('blobs'), { recursive: true });
    const { bytes } = repo.files[WEIGHTS] as { bytes: Buffer };
    await writeFile(part, bytes.subarray(0, 50_000));
    await expectWhole(await fetchAll());
    expect(hub.transfers().find(({ path }) => path === WEIGHTS)?.range).toBe('bytes=50000-');
    expect(existsSync(part)).toBe(false);
  });
});
