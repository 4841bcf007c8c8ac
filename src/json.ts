import { readFile, stat } from 'node:fs/promises';
import { ConfigError } from './errors.ts';
import { isReadableFile, reading } from './files.ts';
import { JsonCursor, JsonSyntaxError } from './json-cursor.ts';

/** Deepest nesting of objects and lists we read from a file of a repo; real ones stay below ten. */
export const MAX_JSON_DEPTH = 64;

/** Bytes of a settings file (config.json and its like) or saved conversation we read; real ones stay below 100 kB. */
const MAX_JSON_FILE_BYTES = 8 * 2 ** 20;

/** Entries of one list or object of such a file; real ones, of modules that are not quantized, stay below 50,000. */
const MOST_ENTRIES = 65_536;

/** What a file of JSON is to be, for messages. */
export interface JsonKind {
  /** As in `the limit for a file of settings`. */
  readonly name: string;
  /** What helps where it is none. */
  readonly remedy: string;
}

const SETTINGS: JsonKind = { name: 'file of settings', remedy: 'Correct the file, or download it again' };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const OPEN_LIST = 0x5b;
const CLOSE_OBJECT = 0x7d;
const CLOSE_LIST = 0x5d;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * `JSON.parse` for a file of a repo: the nesting is bounded first, an error names the file, and the numbers are taken that Python writes
 * beyond JSON: NaN, Infinity and -Infinity.
 *
 * @param file path or name for the message
 * @throws ConfigError
 */
export function parseJsonFile(
  text: string,
  file: string,
  maxDepth: number = MAX_JSON_DEPTH,
  kind: JsonKind = SETTINGS,
): unknown {
  if (isDeeperThan(text, maxDepth)) {
    throw new ConfigError(`${file}: values are nested more than ${maxDepth} deep; this is no ${kind.name}`);
  }
  const plain = text.startsWith('\ufeff') ? text.slice(1) : text;
  try {
    return JSON.parse(plain);
  } catch (error) {
    if (/NaN|Infinity/.test(plain)) return parsePythonJson(plain, file, maxDepth, kind);
    throw syntaxError(
      file,
      plain.trim() === '' ? 'the file is empty' : (error as Error).message.replace(/\s+/g, ' '),
      error,
      kind,
    );
  }
}

function parsePythonJson(text: string, file: string, maxDepth: number, kind: JsonKind): unknown {
  const cursor = new JsonCursor(Buffer.from(text));
  try {
    const value = cursor.readValue(maxDepth);
    if (cursor.peek() !== undefined) throw new JsonSyntaxError('text follows the value');
    return value;
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw syntaxError(file, `${error.message} near byte ${cursor.position}`, error, kind);
  }
}

function syntaxError(file: string, reason: string, cause: unknown, { remedy }: JsonKind): ConfigError {
  return new ConfigError(`${file} is not valid JSON: ${reason}. ${remedy}`, { cause });
}

/**
 * Reads a file of settings, or another of their size: size, nesting and lists are bounded, as whoever checks them may have something to say of every entry.
 *
 * @param file path or name for messages
 * @throws ConfigError; HubError where the system does not let it be read
 */
export async function readJsonFile(
  path: string,
  file: string = path,
  kind: JsonKind = SETTINGS,
): Promise<unknown> {
  // A pipe would be waited for, and a device may have no end.
  await isReadableFile(path);
  const { size } = await reading(path, () => stat(path));
  if (size > MAX_JSON_FILE_BYTES) {
    throw new ConfigError(
      `${file} has ${size} bytes; the limit for a ${kind.name} is ${MAX_JSON_FILE_BYTES}`,
    );
  }
  const bytes = await reading(path, () => readFile(path));
  try {
    const value = parseJsonFile(UTF8.decode(bytes), file, MAX_JSON_DEPTH, kind);
    checkEntries(value, file);
    return value;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const what = /^(\xff\xfe|\xfe\xff)/.test(bytes.toString('latin1', 0, 2))
      ? 'UTF-16'
      : 'some other encoding';
    throw new ConfigError(`${file} is not UTF-8 text but ${what}; save it as UTF-8`, { cause: error });
  }
}

function checkEntries(value: unknown, file: string, field = ''): void {
  if (typeof value !== 'object' || value === null) return;
  const entries = Object.entries(value);
  if (entries.length > MOST_ENTRIES)
    throw new ConfigError(
      `${file}: ${field || 'the file'} has ${entries.length} entries; the limit is ${MOST_ENTRIES}`,
    );
  for (const [key, entry] of entries) checkEntries(entry, file, field === '' ? key : `${field}.${key}`);
}

/** Whether lists and objects of a JSON text lie in each other deeper than this; what is no JSON may be any. */
export function isDeeperThan(text: string, maxDepth: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === BACKSLASH) i++;
      else if (code === QUOTE) inString = false;
    } else if (code === QUOTE) inString = true;
    else if (code === OPEN_OBJECT || code === OPEN_LIST) {
      if (++depth > maxDepth) return true;
    } else if (code === CLOSE_OBJECT || code === CLOSE_LIST) depth--;
  }
  return false;
}
