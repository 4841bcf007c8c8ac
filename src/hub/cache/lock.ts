import { randomUUID } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { lstat, lutimes, readFile, readlink, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortIf } from '../../errors.ts';
import { makeFolder } from '../../files.ts';
import { isAlive } from '../../partial-paths.ts';
import { lacksSymlinks } from './links.ts';

const HEARTBEAT_MS = 2000;
/** A lock whose owner cannot be looked up counts as abandoned after this long without a heartbeat. */
const SILENT_MS = 30_000;
const FIRST_POLL_MS = 20;
const LONGEST_POLL_MS = 250;
/** Windows makes no symbolic links without a privilege, and changes what they lead to: there a lock is always a file. */
const AS_FILE = process.platform === 'win32';
/** And it refuses a name for a moment after its file was removed while somebody read it. */
const REFUSALS = AS_FILE ? 20 : 0;

/**
 * Who holds a lock, enough to tell a living owner from a killed one whose process id was given away again, and from a worker that was
 * terminated in a process that lives on.
 */
interface Owner {
  host: string;
  /** Process id namespace; ids of another container mean nothing here. */
  namespace: string;
  pid: number;
  /** The system's id of the thread; that of the process where the system does not say. */
  thread: number;
  /** When the thread started. */
  started: string;
  nonce: string;
}

/**
 * Runs `work` while this process alone holds a lock. The lock is a symlink whose target names its owner: created in one
 * step, contents included; where the disk has no symlinks, a file. A lock left by a killed process or a terminated worker is taken
 * over; so is one of another machine that no longer beats. A living owner is waited for.
 *
 * @param work is told whether the lock is held: where none can be written, it goes on without
 * @param onWait is told once of the process that is waited for
 * @throws AbortError when the caller gives up while waiting
 */
export async function withLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  work: (locked: boolean) => Promise<T>,
  onWait?: (owner: number) => void,
): Promise<T> {
  const own = JSON.stringify(await thisThread());
  if (!(await acquire(path, own, signal, onWait))) return work(false);
  const heartbeat = setInterval(() => lutimes(path, new Date(), new Date()).catch(() => {}), HEARTBEAT_MS);
  heartbeat.unref();
  try {
    return await work(true);
  } finally {
    clearInterval(heartbeat);
    if ((await holderOf(path)) === own) await unlink(path).catch(() => {});
  }
}

/** Resolves to false where the folder of the lock cannot be written. */
async function acquire(
  path: string,
  own: string,
  signal: AbortSignal | undefined,
  onWait: ((owner: number) => void) | undefined,
): Promise<boolean> {
  let seen = { state: '', since: 0 };
  let pollMs = FIRST_POLL_MS;
  let told = false;
  for (let refusals = 0; ; ) {
    abortIf(signal, 'the download');
    const created = await create(path, own);
    if (created === 'impossible' && refusals++ < REFUSALS) {
      await sleep(FIRST_POLL_MS);
      continue;
    }
    if (created !== 'taken') return created === 'created';
    const holder = await holderOf(path);
    if (holder === undefined) continue;
    const state = `${holder} ${(await lstat(path).catch(() => undefined))?.mtimeMs}`;
    if (state !== seen.state) seen = { state, since: Date.now() };
    if (await isAbandoned(holder, Date.now() - seen.since)) await remove(path, holder);
    else {
      if (!told) onWait?.(parseOwner(holder)?.pid ?? 0);
      told = true;
      await sleep(pollMs);
      pollMs = Math.min(pollMs * 1.5, LONGEST_POLL_MS);
    }
  }
}

const UNWRITABLE = /^(EACCES|EPERM|EROFS)$/;

async function create(path: string, own: string): Promise<'created' | 'taken' | 'impossible'> {
  try {
    await makeFolder(dirname(path));
    const asFile = () => writeFile(path, own, { flag: 'wx' });
    if (AS_FILE) await asFile();
    else {
      await symlink(own, path).catch((error) => {
        if (!lacksSymlinks(error)) throw error;
        return asFile();
      });
    }
    return 'created';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'EEXIST') return 'taken';
    if (UNWRITABLE.test(code)) return 'impossible';
    throw error;
  }
}

/** The owner's text, empty for something else than a lock of ours, undefined when the lock has just been given back. */
async function holderOf(path: string): Promise<string | undefined> {
  const gone = (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? undefined : '');
  const inFile = () => readFile(path, 'utf8').catch(gone);
  if (AS_FILE) return inFile();
  return readlink(path).catch((error) => (error.code === 'EINVAL' ? inFile() : gone(error)));
}

/** Takes an abandoned lock away. If a new owner slipped in between, its lock is put back. */
async function remove(path: string, judged: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const taken = (await holderOf(aside)) ?? judged;
  if (taken !== judged) await create(path, taken).catch(() => {});
  await unlink(aside).catch(() => {});
}

async function isAbandoned(holder: string, silentMs: number): Promise<boolean> {
  const owner = parseOwner(holder);
  const self = await thisThread();
  if (owner === undefined || owner.host !== self.host || owner.namespace !== self.namespace) {
    return silentMs > SILENT_MS;
  }
  if (!isAlive(owner.pid)) return true;
  const started = await startTime(owner.pid, owner.thread ?? owner.pid);
  if (started === 'ended') return true;
  if (started === '' || owner.started === '') return silentMs > SILENT_MS;
  return started !== owner.started;
}

function parseOwner(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Owner;
    return Number.isSafeInteger(owner.pid) && owner.pid > 0 ? owner : undefined;
  } catch {
    return undefined;
  }
}

async function thisThread(): Promise<Owner> {
  const thread = threadId();
  return {
    host: hostname(),
    namespace: await readlink('/proc/self/ns/pid').catch(() => ''),
    pid: process.pid,
    thread,
    started: await startTime(process.pid, thread),
    nonce: randomUUID(),
  };
}

/** Asked synchronously, because everything else is read on other threads. */
function threadId(): number {
  try {
    return Number(/\d+$/.exec(readlinkSync('/proc/thread-self'))?.[0] ?? process.pid);
  } catch {
    return process.pid;
  }
}

const statOf = (folder: string) => readFile(`${folder}/stat`, 'latin1').catch(() => '');

/** Start of a thread in clock ticks since boot (proc(5), stat, field 22), 'ended', or '' where the system does not say. */
async function startTime(pid: number, thread: number): Promise<string> {
  const text = await statOf(`/proc/${pid}/task/${thread}`);
  if (text === '') return (await statOf(`/proc/${pid}`)) === '' ? '' : 'ended';
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended; its parent just has not looked.
  return fields[0] === 'Z' ? 'ended' : (fields[19] ?? '');
}
