/**
 * Files of routing records: JSON lines, a header and then a record each, in the order of the passes.
 *
 * Header: `{"format":"switchyard-routing","version":1,…}` with the fields of `RoutingFileHeader`. Record: `{"pass","request","phase","start",
 * "tokens","experts"[,"weights"]}`; `experts` is base64 of uint16 and `weights` of float32, little-endian, [tokens, layers, k].
 */
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { z } from 'zod';
import { InputError, issueText } from '../errors.ts';
import { unreadable, whyUnwritable } from '../files.ts';
import { isDeeperThan, MAX_JSON_DEPTH } from '../json.ts';
import type { RoutingHeader, RoutingListener, RoutingRecord } from './record.ts';

const FORMAT = 'switchyard-routing';
const VERSION = 1;

/** Bounds on a file that somebody may hand us; real ones stay far below. */
const MOST = 1e9;
/** Experts of all layers, each of which statistics count. */
const MOST_EXPERTS = 2 ** 20;
/** Characters of a line. */
const LONGEST_LINE = 64 * 2 ** 20;
const count = z.int().min(0).max(MOST);
const headerSchema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  model: z.string(),
  modelType: z.string(),
  dtype: z.string(),
  backend: z.string(),
  layers: z.array(count).min(1).max(4096),
  experts: z.int().min(1).max(0xffff),
  perToken: z.int().min(1).max(1024),
  expertBytes: z.number().min(0),
});
const recordSchema = z.object({
  pass: count,
  request: count,
  phase: z.enum(['prefill', 'decode']),
  start: count,
  tokens: count,
  experts: z.base64(),
  weights: z.base64().optional(),
});

/** What records can be had of: a loaded model. */
export interface RoutingSource {
  readonly routingHeader: RoutingHeader;
  on(event: 'routing', listener: RoutingListener, options: { weights: boolean }): unknown;
  off(event: 'routing', listener: RoutingListener): unknown;
}

export interface RecordRoutingOptions {
  /** Whether records have the experts' weights; makes the file three times as long. Default false. */
  readonly weights?: boolean;
}

/** A file that is being written. */
export interface RoutingRecorder {
  /**
   * Ends recording, once everything is written.
   * @throws InputError naming the file where it could not be written
   */
  close(): Promise<void>;
}

/**
 * Writes where a model sends its tokens to a file, from now until `close`. A file of that name is replaced.
 * @throws InputError naming the file where it cannot be opened
 */
export async function recordRouting(
  model: RoutingSource,
  file: string,
  { weights = false }: RecordRoutingOptions = {},
): Promise<RoutingRecorder> {
  const stream = createWriteStream(file);
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve());
    stream.once('error', (error) => reject(unwritable(file, error)));
  });
  // A full disk is told at the end; what is generated meanwhile is not lost.
  let fault: Error | undefined;
  stream.on('error', (error) => {
    fault ??= error;
  });
  const header: RoutingFileHeader = { format: FORMAT, version: VERSION, ...model.routingHeader };
  writeLine(stream, header);
  const listener = (record: RoutingRecord) => {
    if (fault === undefined) writeLine(stream, encode(record));
  };
  model.on('routing', listener, { weights });
  return {
    async close() {
      model.off('routing', listener);
      if (fault === undefined) await finished(stream.end()).catch((error: Error) => (fault ??= error));
      if (fault) throw unwritable(file, fault);
    },
  };
}

function writeLine(stream: WriteStream, value: unknown): void {
  stream.write(`${JSON.stringify(value)}\n`);
}

function encode({ experts, weights, ...rest }: RoutingRecord) {
  return { ...rest, experts: base64(experts), ...(weights && { weights: base64(weights) }) };
}

function base64({ buffer, byteOffset, byteLength }: Uint16Array | Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}

function unwritable(file: string, error: unknown): InputError {
  return new InputError(
    `${file}: routing cannot be recorded here: ${whyUnwritable(error)}. Name another file`,
    { cause: error },
  );
}

/** The first line of a file of routing records. */
export interface RoutingFileHeader extends RoutingHeader {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
}

/** A file of routing records that was read. */
export interface RoutingFile {
  readonly header: RoutingFileHeader;
  readonly records: readonly RoutingRecord[];
}

/**
 * Reads a file that `recordRouting` has written. A last line that is cut off, as by a kill, is left out.
 * @throws HubError where it cannot be read; InputError naming file and line where it is no such file
 */
export async function readRoutingFile(file: string): Promise<RoutingFile> {
  let header: RoutingFileHeader | undefined;
  const records: RoutingRecord[] = [];
  let number = 0;
  let cut: InputError | undefined;
  try {
    for await (const line of linesOf(file)) {
      number++;
      if (cut) throw cut;
      const where = `${file}: line ${number}`;
      if (isDeeperThan(line, MAX_JSON_DEPTH))
        throw new InputError(
          `${where} has values that are nested more than ${MAX_JSON_DEPTH} deep; it is no routing record`,
        );
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch (error) {
        // Only the last line may be incomplete.
        cut = new InputError(`${where} is not JSON: ${(error as Error).message}`);
        continue;
      }
      if (header === undefined) header = parseHeader(value, where);
      else records.push(decode(value, header, where));
    }
  } catch (error) {
    throw error instanceof InputError ? error : unreadable(file, error);
  }
  if (header === undefined)
    throw cut ?? new InputError(`${file} is empty; expected a file written with --routing`);
  return { header, records };
}

/** @throws InputError for a line that is too long; whatever the file system throws */
async function* linesOf(file: string): AsyncGenerator<string, void, undefined> {
  let number = 1;
  let parts: string[] = [];
  let length = 0;
  const add = (part: string) => {
    length += part.length;
    if (length > LONGEST_LINE)
      throw new InputError(`${file}: line ${number} is longer than ${LONGEST_LINE}; it is no routing record`);
    parts.push(part);
  };
  for await (const chunk of createReadStream(file, 'utf8')) {
    const [first = '', ...others] = (chunk as string).split('\n');
    add(first);
    for (const part of others) {
      yield parts.join('');
      number++;
      parts = [];
      length = 0;
      add(part);
    }
  }
  if (length > 0) yield parts.join('');
}

function parseHeader(value: unknown, where: string): RoutingFileHeader {
  const header = parse(headerSchema, value, where, 'the header of a file of routing records');
  const { layers, experts } = header;
  if (layers.length * experts > MOST_EXPERTS)
    throw new InputError(
      `${where} names ${layers.length} layers of ${experts} experts; at most ${MOST_EXPERTS} experts in all are counted`,
    );
  return header;
}

function decode(value: unknown, { layers, experts, perToken }: RoutingHeader, where: string): RoutingRecord {
  const { experts: chosen, weights, ...rest } = parse(recordSchema, value, where, 'a routing record');
  const size = rest.tokens * layers.length * perToken;
  const bytes = bytesOf(chosen, 2 * size, `${where}: experts`);
  const ids = new Uint16Array(bytes);
  const wrong = ids.find((id) => id >= experts && id !== 0xffff);
  if (wrong !== undefined) throw new InputError(`${where}: expert ${wrong} is not one of ${experts}`);
  if (weights === undefined) return { ...rest, experts: ids };
  return {
    ...rest,
    experts: ids,
    weights: new Float32Array(bytesOf(weights, 4 * size, `${where}: weights`)),
  };
}

/** A copy of its own, so that it is aligned. */
function bytesOf(text: string, expected: number, where: string): ArrayBuffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== expected)
    throw new InputError(`${where} has ${bytes.length} bytes; expected ${expected} by tokens and header`);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
}

function parse<T>(schema: z.ZodType<T>, value: unknown, where: string, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues as [(typeof parsed.error.issues)[number]];
  throw new InputError(`${where} is not ${what}: ${issueText(issue, value)}`);
}
