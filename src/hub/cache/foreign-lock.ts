import { readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortIf } from '../../errors.ts';

const POLL_MS = 200;

/**
 * Waits while a process of huggingface_hub fetches the same blob: it holds a file lock (flock), which no call of Node asks for, but
 * which Linux lists in /proc/locks (proc(5)). Elsewhere, and across machines, nobody is seen and nobody waited for.
 *
 * @param lock `.locks/<repo>/<etag>.lock`
 * @param onWait is told once of the process that is waited for
 * @throws AbortError
 */
export async function waitForForeignLock(
  lock: string,
  signal: AbortSignal | undefined,
  onWait: (owner: number) => void,
): Promise<void> {
  for (let told = false; ; told = true) {
    const owner = await foreignOwner(lock);
    if (owner === undefined) return;
    if (!told) onWait(owner);
    await sleep(POLL_MS);
    abortIf(signal, 'the download');
  }
}

async function foreignOwner(lock: string): Promise<number | undefined> {
  const found = await stat(lock).catch(() => undefined);
  if (found === undefined) return undefined;
  const locks = await readFile('/proc/locks', 'latin1').catch(() => '');
  // "1: FLOCK  ADVISORY  WRITE 4711 fd:01:131090 0 EOF"; lines with "->" only wait for the lock.
  for (const [, owner, inode] of locks.matchAll(/^\d+: FLOCK +\S+ +WRITE +(\d+) +[^\s:]+:[^\s:]+:(\d+) /gm))
    if (Number(inode) === found.ino) return Number(owner);
  return undefined;
}
