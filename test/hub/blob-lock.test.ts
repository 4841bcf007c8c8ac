import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { beforeEach, expect, test } from 'vitest';
import { AbortError } from '../../src/errors.ts';
import { withLock } from '../../src/hub/cache/lock.ts';
import { temporaryFolder } from './helpers.ts';

let path: string;
beforeEach(async () => {
  path = join(await temporaryFolder(), 'locks/x.switchyard');
});

/** Takes the lock, and leaves where that would wait. @param leave how, told the way out */
function takenOrLeft(leave = (out: () => void) => out()): Promise<string> {
  const abort = new AbortController();
  return withLock(
    path,
    abort.signal,
    async () => 'mine',
    () => leave(() => abort.abort()),
  );
}

/** The owner that a lock names while it is held. */
async function ownerOf(lock: string): Promise<Record<string, unknown>> {
  let owner = '';
  await withLock(lock, undefined, async () => {
    owner = process.platform === 'win32' ? await readFile(lock, 'utf8') : await readlink(lock);
  });
  return JSON.parse(owner);
}

async function leave(owner: Record<string, unknown> | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const text = typeof owner === 'string' ? owner : JSON.stringify(owner);
  await (process.platform === 'win32' ? writeFile(path, text) : symlink(text, path));
}

test('lets one in at a time, in this process too, and leaves nothing behind', async () => {
  let inside = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++inside);
    await new Promise((resolve) => setTimeout(resolve, 5));
    inside--;
  };
  await Promise.all(Array.from({ length: 8 }, () => withLock(path, undefined, work)));
  expect(most).toBe(1);
  expect(existsSync(path)).toBe(false);
  await expect(readlink(path)).rejects.toThrow(/ENOENT/);
});

test('is given back when the work fails', async () => {
  await expect(withLock(path, undefined, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await withLock(path, undefined, async () => 'free')).toBe('free');
});

test('is taken over from a process that is gone', async () => {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  await leave({ ...(await ownerOf(path)), pid: child.pid });
  expect(await withLock(path, undefined, async () => 'mine')).toBe('mine');
});

// Only Linux says when a process started.
test.skipIf(process.platform !== 'linux')(
  'is taken over when the process id now belongs to another process',
  async () => {
    await leave({ ...(await ownerOf(path)), pid: process.pid, started: '1' });
    expect(await withLock(path, undefined, async () => 'mine')).toBe('mine');
  },
);

// Only Linux tells threads from their process.
test.skipIf(process.platform !== 'linux')('is taken over from a worker that was terminated', async () => {
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true });
  await once(worker, 'online');
  const mine = readlinkSync('/proc/thread-self');
  const others = readdirSync('/proc/self/task').filter((thread) => !mine.endsWith(`/${thread}`));
  await worker.terminate();
  const gone = () => others.find((thread) => !existsSync(`/proc/self/task/${thread}`));
  // Linux lists a thread for a moment after it was joined.
  await expect.poll(gone).toBeDefined();
  const thread = Number(gone());
  await leave({ ...(await ownerOf(path)), thread });
  expect(await takenOrLeft()).toBe('mine');
});

test('is waited for while its owner lives, and the wait can be ended', async () => {
  const abort = new AbortController();
  const waits: number[] = [];
  await withLock(path, undefined, async () => {
    const second = withLock(
      path,
      abort.signal,
      async () => {},
      (pid) => {
        waits.push(pid);
        abort.abort();
      },
    );
    await expect(second).rejects.toThrow(AbortError);
  });
  expect(waits).toEqual([process.pid]);
});

test('that is no lock of ours is waited for, not spun on', async () => {
  await mkdir(path, { recursive: true });
  await expect(takenOrLeft((out) => setTimeout(out, 10))).rejects.toThrow(AbortError);
});

test('of another machine is respected while nobody can tell', async () => {
  await leave({ ...(await ownerOf(path)), host: 'elsewhere', pid: 1 });
  await expect(takenOrLeft()).rejects.toThrow(AbortError);
});
