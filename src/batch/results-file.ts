import { type FileHandle, open } from 'node:fs/promises';
import { InputError, show } from '../errors.ts';
import { unwritable } from '../files.ts';
import { type BatchLine, customIdOf, readLines, wholeLines } from './lines.ts';
import { type BatchResult, isAnswered, isServersFault, lineOf, resultId } from './result.ts';

/** What every line begins with. */
const BEGINNING = JSON.stringify({ id: resultId(1) }).slice(0, -'1"}'.length);

/** What earlier runs have left in a file of results. */
export interface EarlierResults {
  readonly answered: number;
  readonly failed: number;
  /** The line that was answered last. */
  readonly last: number | undefined;
  /** Lines that failed in spite of every attempt. */
  readonly dead: ReadonlySet<number>;
}

/** A file of results that grows, and knows which lines it has answered already. */
export class ResultsFile {
  readonly #path: string;
  readonly #file: FileHandle;
  /** By number of the line; what was made in this run is no longer asked for. */
  readonly #had: Map<number, string | null>;
  readonly earlier: EarlierResults;

  private constructor(
    path: string,
    file: FileHandle,
    had: Map<number, string | null>,
    earlier: EarlierResults,
  ) {
    this.#path = path;
    this.#file = file;
    this.#had = had;
    this.earlier = earlier;
  }

  /**
   * Opens or makes the file. Half a line at its end, which a kill leaves, is cut off.
   * @throws InputError for a file that holds something else
   */
  static async open(path: string): Promise<ResultsFile> {
    const file = await open(path, 'a+').catch((error: unknown) => {
      throw unwritable(path, error);
    });
    try {
      if (!(await file.stat()).isFile())
        throw new InputError(
          `${path} is no regular file, from which a run could go on; name another for the results`,
        );
      const whole = await wholeLines(file);
      const had = new Map<number, string | null>();
      const earlier = {
        answered: 0,
        failed: 0,
        last: undefined as number | undefined,
        dead: new Set<number>(),
      };
      for await (const { number, text } of readLines(path, whole)) {
        const { result, line } = parseResult(text, `${path}, line ${number}`);
        had.set(line, result.custom_id);
        if (isAnswered(result)) earlier.answered++;
        else earlier.failed++;
        if (isServersFault(result)) earlier.dead.add(line);
        earlier.last = line;
      }
      await cutHalfLine(file, whole, path);
      return new ResultsFile(path, file, had, earlier);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Whether an earlier run has answered a line.
   * @throws InputError where what it answered was another line: the results are those of another file
   */
  has({ number, text }: BatchLine): boolean {
    const customId = this.#had.get(number);
    if (customId === undefined) return false;
    if (customId !== null && customIdOf(text) !== customId)
      throw new InputError(
        `${this.#path} has the results of another file: line ${number} was ${show(customId)} there; name another file for the results`,
      );
    return true;
  }

  /** Adds a result, in one piece. */
  async add(result: BatchResult): Promise<void> {
    try {
      await this.#file.appendFile(`${JSON.stringify(result)}\n`);
    } catch (error) {
      throw unwritable(this.#path, error, 'The same command goes on from here, once there is room');
    }
  }

  /** Closes the file, once it is on the disk. */
  async close(): Promise<void> {
    try {
      await this.#file.datasync();
    } finally {
      await this.#file.close();
    }
  }
}

/** Cuts off half a result at the end of a file. @throws InputError where something else is there */
async function cutHalfLine(file: FileHandle, whole: number, path: string): Promise<void> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, whole);
  if (bytesRead === 0) return;
  const found = buffer.toString('utf8', 0, bytesRead);
  if (!BEGINNING.startsWith(found)) throw noResult(found, `${path}, last line`);
  await file.truncate(whole);
}

function noResult(text: string, where: string): InputError {
  return new InputError(`${where}: ${show(text)} is no result of a batch; name another file for the results`);
}

function parseResult(text: string, where: string): { result: BatchResult; line: number } {
  let result: BatchResult | undefined;
  try {
    result = JSON.parse(text);
  } catch {}
  const line = lineOf(result?.id);
  if (!result || line === undefined) throw noResult(text, where);
  return { result, line };
}
