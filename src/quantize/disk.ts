import { EngineError } from '../errors.ts';
import { freeSpace } from '../files.ts';
import { formatBytes } from '../units.ts';

/**
 * @param remedy besides freeing space
 * @throws EngineError naming the bytes that are wanted and those that are free
 */
export async function checkRoom(folder: string, bytes: number, remedy: string): Promise<void> {
  const free = await freeSpace(folder);
  if (free === undefined || free >= bytes) return;
  throw new EngineError(
    `the rounded weights take ${formatBytes(bytes)}, but only ${formatBytes(free)} are free in ${folder}. Free some space, or ${remedy}`,
  );
}

/** What the file system says while weights are written, with a remedy; other errors pass through. */
export function inWords(error: unknown, folder: string, bytes: number, remedy: string): unknown {
  const { code, path, syscall } = error as NodeJS.ErrnoException;
  if (syscall === undefined) return error;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const help = isFull
    ? `Free some space there, or ${remedy}`
    : `${remedy[0]?.toUpperCase()}${remedy.slice(1)}`;
  return new EngineError(
    `the rounded weights (${formatBytes(bytes)}) cannot be kept: ${path ?? folder} cannot be written (${code}). ${help}`,
    { cause: error },
  );
}
