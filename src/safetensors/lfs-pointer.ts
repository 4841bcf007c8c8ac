/** The part of a file handle that reading needs. */
export interface ByteSource {
  read(target: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

/** Git LFS pointers are about 130 bytes and start with this line (Git LFS specification, "The Pointer"). */
const LFS_FIRST_LINE = 'version https://git-lfs.github.com/spec/v1';
const LFS_MAX_BYTES = 1024;

/** Size of the file that a Git LFS pointer stands for (0 if it does not say), or undefined for any other file. */
export async function lfsPointerSize(source: ByteSource, fileBytes: number): Promise<number | undefined> {
  if (fileBytes > LFS_MAX_BYTES || fileBytes < LFS_FIRST_LINE.length) return undefined;
  const bytes = Buffer.alloc(fileBytes);
  await source.read(bytes, 0, fileBytes, 0);
  const text = bytes.toString('latin1');
  return text.startsWith(LFS_FIRST_LINE) ? Number(/^size (\d+)$/m.exec(text)?.[1] ?? 0) : undefined;
}
