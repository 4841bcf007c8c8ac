import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { InputError } from '../errors.ts';
import { unwritable } from '../files.ts';
import { type BatchLine, LONGEST_LINE, readLines, wholeLines } from './lines.ts';

/**
 * A file of requests that failed in spite of every attempt, each of them once. Results are written before it, and say what belongs into it:
 * what a kill has kept out of it, the next run adds.
 */
export class DeadLetters {
  readonly #path: string;
  readonly #file: FileHandle;
  /** Hashes of its lines, which may be long. */
  readonly #had: Set<string>;
  /** Whether its last line lacks an end. */
  #isOpen: boolean;

  private constructor(path: string, file: FileHandle, had: Set<string>, isOpen: boolean) {
    this.#path = path;
    this.#file = file;
    this.#had = had;
    this.#isOpen = isOpen;
  }

  /**
   * Opens or makes the file, and adds what it lacks.
   * @param failed the requests that failed in earlier runs; half of one at the end of the file, which a kill leaves, is cut off
   * @throws InputError for a file that cannot be written
   */
  static async open(path: string, failed: () => AsyncIterable<BatchLine>): Promise<DeadLetters> {
    const file = await open(path, 'a+').catch((error: unknown) => {
      throw unwritable(path, error);
    });
    try {
      const stats = await file.stat();
      if (!stats.isFile())
        throw new InputError(`${path} is no regular file; name another for the dead letters`);
      const whole = await wholeLines(file);
      const had = new Set<string>();
      for await (const { text } of readLines(path, whole)) had.add(hashOf(text));
      const half = Buffer.alloc(Math.min(stats.size - whole, LONGEST_LINE));
      await file.read(half, 0, half.length, whole);
      const isCut = half.length > 0 && (await beginsOneOf(failed(), half));
      if (isCut) await file.truncate(whole);
      const letters = new DeadLetters(path, file, had, half.length > 0 && !isCut);
      for await (const line of failed()) await letters.add(line);
      return letters;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Adds a request that is not there yet. */
  async add({ text }: BatchLine): Promise<void> {
    const hash = hashOf(text);
    if (this.#had.has(hash)) return;
    try {
      await this.#file.appendFile(`${this.#isOpen ? '\n' : ''}${text}\n`);
    } catch (error) {
      throw unwritable(this.#path, error);
    }
    this.#isOpen = false;
    this.#had.add(hash);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function beginsOneOf(lines: AsyncIterable<BatchLine>, half: Buffer): Promise<boolean> {
  for await (const { text } of lines)
    if (Buffer.from(text).subarray(0, half.length).equals(half)) return true;
  return false;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}
