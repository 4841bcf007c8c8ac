import type { FileHandle } from 'node:fs/promises';

/** Git LFS pointers are about 130 bytes and start with this line (Git LFS specification, "The Pointer"). */
const LFS_FIRST_LINE = 'version https://git-lfs.github.com/spec/v1';
const LFS_MAX_BYTES = 1024;

/** Size of the file that a Git LFS pointer stands for (0 if it does not say), or undefined for any other file. */
export async function lfsPointerSize(handle: FileHandle, fileBytes: number): Promise<number | undefined> {
  if (fileBytes > LFS_MAX_BYTES || fileBytes < LFS_FIRST_LINE.length) return undefined;
  const text = Buffer.alloc(fileBytes);
  await handle.read(text, 0, fileBytes, 0);
  return parseLfsPointer(text.toString('latin1'));
}

/** As `lfsPointerSize`, from the text of a small file. */
export function parseLfsPointer(text: string): number | undefined {
  if (!text.startsWith(LFS_FIRST_LINE)) return undefined;
  return Number(/^size (\d+)$/m.exec(text)?.[1] ?? 0);
}
