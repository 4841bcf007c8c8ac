/** How much memory this process may use. */
import { freemem, totalmem } from 'node:os';
import { groupFolders, type ReadText, readText } from './control-groups.ts';

export interface MemoryHere {
  /** Bytes that this process may use: the machine's, or less where a control group limits it. */
  readonly total: number;
  /** Bytes of them that others leave free; pages of files, which the system gives up, count as free. */
  readonly available: number;
  /** The control group's limit, where it is what limits. */
  readonly limit?: number;
}

/** What the system says of the machine, in bytes. */
export interface SystemMemory {
  readonly total: number;
  /** Undefined where the system does not count pages that it would give up, as macOS. */
  readonly available: number | undefined;
}

function systemMemory(): SystemMemory {
  return { total: totalmem(), available: process.platform === 'darwin' ? undefined : freemem() };
}

/**
 * Mapped weights are pages of files, which count towards a control group's limit as any other memory does.
 * @param read for tests: stands in for the files of /proc and /sys
 */
export function memoryHere(
  read: ReadText = readText,
  { total, available = total }: SystemMemory = systemMemory(),
): MemoryHere {
  const { unified, legacy } = groupFolders(read, 'memory');
  const limits = [
    ...unified.flatMap((folder) => [read(`${folder}/memory.max`), read(`${folder}/memory.high`)]),
    ...legacy.map((folder) => read(`${folder}/memory.limit_in_bytes`)),
  ];
  const limit = Math.min(...limits.map(bytesOf));
  return {
    total: Math.min(total, limit),
    available: Math.min(available, limit),
    ...(limit < total && { limit }),
  };
}

/** Infinity for `max` and for what is no number. */
function bytesOf(text: string | undefined): number {
  const bytes = Number(text?.trim() || 'max');
  return bytes > 0 ? bytes : Number.POSITIVE_INFINITY;
}
