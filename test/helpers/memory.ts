import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Whether this system tells a process about its memory and files. */
export const hasProc = process.platform === 'linux' && existsSync('/proc/self/smaps_rollup');

/** Memory of this process that belongs to it alone and was written to, in bytes. */
export function privateDirty(): number {
  const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return Number(/Private_Dirty:\s+(\d+) kB/.exec(text)?.[1]) * 1024;
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
