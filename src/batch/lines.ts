import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { unreadable } from '../files.ts';

/** A line of a batch file. */
export interface BatchLine {
  /** From 1 on, empty lines included, as editors count. */
  readonly number: number;
  readonly text: string;
}

/** The lines of a file that are not empty, as they are asked for. @throws HubError for a file that cannot be read */
export async function* readLines(file: string): AsyncGenerator<BatchLine, void, undefined> {
  const input = createReadStream(file);
  const failed = new Promise<never>((_, reject) => {
    input.once('error', (error) => reject(unreadable(file, error)));
  });
  failed.catch(() => {});
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })[Symbol.asyncIterator]();
  try {
    for (let number = 1; ; number++) {
      const next = await Promise.race([lines.next(), failed]);
      if (next.done) break;
      const text = number === 1 ? next.value.replace(/^\uFEFF/, '') : next.value;
      if (text.trim() !== '') yield { number, text };
    }
    // The interface ends without a word where the file fails after it was opened.
    if (input.errored) throw unreadable(file, input.errored);
  } finally {
    input.destroy();
  }
}

/** How many lines there are to answer. @throws HubError for a file that cannot be read */
export async function countLines(file: string): Promise<number> {
  let count = 0;
  for await (const _ of readLines(file)) count++;
  return count;
}
