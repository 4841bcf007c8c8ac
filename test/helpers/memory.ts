import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Whether this system tells a process about its memory and files. */
export const hasProc = process.platform === 'linux' && existsSync('/proc/self/smaps_rollup');

/** Memory of this process that belongs to it alone and was written to, in bytes. */
export function privateDirty(): number {
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return Number(/Private_Dirty:\s+(\d+) kB/.exec(text)?.[1]) * 1024;
}

export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
}

/** How far the resident memory of this process grows at most while `work` runs, in bytes. */
export async function residentGrowth(work: () => Promise<unknown>): Promise<number> {
  // What earlier work has left would make room for this one.
  collectGarbage();
  // The highest that there was may come from long before, or from who started this process; Linux forgets it when told to (proc(5)).
  const canForget = existsSync('/proc/self/clear_refs');
  const highest = () =>
    canForget
      ? Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
      : process.resourceUsage().maxRSS;
  if (canForget) writeFileSync('/proc/self/clear_refs', '5');
  const before = highest();
  await work();
  return (highest() - before) * 1024;
}

/** Regular files that are open or mapped, sorted. */
export function openFiles(): string[] {
  const files = new Set<string>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (target.startsWith('/') && !target.startsWith('/proc') && !target.startsWith('/dev'))
        files.add(target);
    } catch {
      // The descriptor that lists the folder is gone by now.
    }
  }
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const path = line.slice(73).trim();
    if (path.startsWith('/')) files.add(path);
  }
  return [...files].sort();
}
