import { readFileSync } from 'node:fs';

/** Memory of this process, in bytes. */
export interface MemoryUse {
  /** Everything resident. */
  readonly resident: number;
  /** Written by this process and so its own (Linux). */
  readonly privateDirty?: number;
  /** Resident pages of files, such as mapped weights; the system takes them back when it needs room (Linux). */
  readonly mapped?: number;
  /** In use on the GPU, by this process and others. */
  readonly gpu?: number;
}

/** @param rollup text of /proc/self/smaps_rollup; undefined where there is none */
export function memoryUse(rollup: string | undefined = readRollup()): MemoryUse {
  const field = (name: string) => {
    const kilobytes = rollup?.match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  };
  const resident = field('Rss');
  const privateDirty = field('Private_Dirty');
  const anonymous = field('Anonymous');
  if (resident === undefined || privateDirty === undefined || anonymous === undefined)
    return { resident: process.memoryUsage.rss() };
  return { resident, privateDirty, mapped: resident - anonymous };
}

function readRollup(): string | undefined {
  try {
    return readFileSync('/proc/self/smaps_rollup', 'utf8');
  } catch {
    return undefined;
  }
}
