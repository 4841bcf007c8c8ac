import { createReadStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { unreadable } from '../files.ts';

/** A line of a batch file. */
export interface BatchLine {
  /** From 1 on, empty lines included, as editors count. */
  readonly number: number;
  /** Empty where it is too long. */
  readonly text: string;
  /** Set where it has more than `LONGEST_LINE` bytes, which are skipped. */
  readonly isTooLong?: true;
}

/** Bytes of a line; far above what a server takes, far below what a string holds. */
export const LONGEST_LINE = 128 * 2 ** 20;

const LINE_FEED = 0x0a;

/**
 * The lines of a file that are not empty, as they are asked for. They end with LF or CRLF; what else Unicode calls the end of a line may be
 * in strings of JSON.
 * @param size bytes of the file that are read; default: all
 * @throws HubError for a file that cannot be read
 */
export async function* readLines(
  file: string,
  size = Number.POSITIVE_INFINITY,
): AsyncGenerator<BatchLine, void, undefined> {
  let number = 0;
  let parts: Buffer[] = [];
  let bytes = 0;
  const add = (part: Buffer) => {
    bytes += part.length;
    if (bytes > LONGEST_LINE) parts = [];
    else parts.push(part);
  };
  const end = (): BatchLine | undefined => {
    number++;
    const isTooLong = bytes > LONGEST_LINE;
    const text = Buffer.concat(parts)
      .toString()
      .replace(/\r$/, '')
      .replace(number === 1 ? /^\uFEFF/ : '', '');
    parts = [];
    bytes = 0;
    if (isTooLong) return { number, text: '', isTooLong };
    return text.trim() === '' ? undefined : { number, text };
  };
  for await (const chunk of chunksOf(file, size)) {
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at !== -1; at = chunk.indexOf(LINE_FEED, from)) {
      add(chunk.subarray(from, at));
      from = at + 1;
      const line = end();
      if (line) yield line;
    }
    add(chunk.subarray(from));
  }
  const line = bytes > 0 ? end() : undefined;
  if (line) yield line;
}

async function* chunksOf(file: string, size: number): AsyncGenerator<Buffer, void, undefined> {
  if (size === 0) return;
  const chunks = createReadStream(file, { end: size - 1 })[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await chunks.next().catch((error: unknown) => {
        throw unreadable(file, error);
      });
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await chunks.return?.();
  }
}

/** Bytes of a file up to the last end of a line. */
export async function wholeLines(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const buffer = Buffer.alloc(65_536);
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - buffer.length);
    const { bytesRead } = await file.read(buffer, 0, end - start, start);
    const at = buffer.lastIndexOf('\n', bytesRead - 1);
    if (at !== -1) return start + at + 1;
    end = start;
  }
  return 0;
}

/** The `custom_id` of a request, or null where the line has none. */
export function customIdOf(text: string): string | null {
  try {
    const id = (JSON.parse(text) as { custom_id?: unknown } | null)?.custom_id;
    return typeof id === 'string' ? id : null;
  } catch {
    return null;
  }
}
