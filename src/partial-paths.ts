/** What is written beside its place, and put there when it is complete: names of such files and folders, and what becomes of those left over. */
import { createHash } from 'node:crypto';
import { readdir, readlink, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

/** What is left of a process that cannot be looked up counts as abandoned after a day in which nothing was written to it. */
const SILENT_MS = 86_400_000;

/** A name beside `path` that no other writer has, on any machine that sees the same disk. */
export async function partialPath(path: string): Promise<string> {
  return `${path}.partial-${await machine()}-${process.pid}-${performance.now()}`;
}

/**
 * Removes what processes that have ended, as killed ones do, have left under names of {@link partialPath}, with all that is in it.
 *
 * @param name whose leftovers in the folder; without it those of all names
 */
export async function removeLeftovers(folder: string, name?: string): Promise<void> {
  const own = await machine();
  for (const entry of await readdir(folder).catch(() => [])) {
    const [, of, where, pid] = /^(.+)\.partial-([\da-f]{8})-(\d+)-[\d.]+(?:\.former)?$/.exec(entry) ?? [];
    if (of === undefined || (name !== undefined && of !== name)) continue;
    const path = join(folder, entry);
    const isLeft = where === own ? !isAlive(Number(pid)) : Date.now() - (await lastWritten(path)) > SILENT_MS;
    if (isLeft) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

/** Ids of processes mean something within one namespace of one machine. */
async function machine(): Promise<string> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  return createHash('sha256').update(`${hostname()} ${namespace}`).digest('hex').slice(0, 8);
}

/** When a file, or one in a folder, was last written to: milliseconds, as of Date.now(). */
async function lastWritten(path: string): Promise<number> {
  const paths = [path, ...(await readdir(path).catch(() => [])).map((entry) => join(path, entry))];
  const times = await Promise.all(paths.map((one) => stat(one).then((found) => found.mtimeMs, Date.now)));
  return Math.max(...times);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
