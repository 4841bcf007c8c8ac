/** Where Linux says how much of a machine a process may use. */
import { readFileSync } from 'node:fs';

/** Reads a file of /proc or /sys as text; undefined where it does not exist. */
export type ReadText = (path: string) => string | undefined;

export function readText(path: string): string | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** Folders of the control groups that a process is in, its own and every one above it. */
export interface GroupFolders {
  /** Of the unified hierarchy (version 2). */
  readonly unified: readonly string[];
  /** Of one controller's own hierarchy (version 1). */
  readonly legacy: readonly string[];
}

/** In a container its own group is the root of what it sees, whatever the path says; looking at all above finds it. */
export function groupFolders(read: ReadText, controller: 'cpu' | 'memory'): GroupFolders {
  const groups = (read('/proc/self/cgroup') ?? '').split('\n');
  const unified = groups.find((line) => line.startsWith('0::'))?.slice(3) ?? '/';
  const own = new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:`);
  const legacy = groups.find((line) => own.test(line))?.replace(/^\d+:[^:]*:/, '') ?? '/';
  return {
    unified: ancestors(unified).map((group) => `/sys/fs/cgroup${group}`),
    legacy: ancestors(legacy).map((group) => `/sys/fs/cgroup/${controller}${group}`),
  };
}

/** `/a/b` → ['/a/b', '/a', ''] */
function ancestors(group: string): string[] {
  const parts = group.split('/').filter((part) => part !== '');
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts
      .slice(0, parts.length - i)
      .map((p) => `/${p}`)
      .join(''),
  );
}
