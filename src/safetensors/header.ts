import { open, stat } from 'node:fs/promises';
import { isSafetensorsDType, SAFETENSORS_DTYPES, storedBits } from '../dtype.ts';
import { CheckpointError } from '../errors.ts';
import { reading } from '../files.ts';
import { MAX_JSON_DEPTH } from '../json.ts';
import { JsonCursor, JsonEndError, JsonSyntaxError } from '../json-cursor.ts';
import { type ByteSource, lfsPointerSize } from './lfs-pointer.ts';
import { MAX_ENTRY_BYTES, MAX_HEADER_BYTES, MAX_NAME_BYTES, MAX_RANK, MAX_TENSORS } from './limits.ts';
import type { TensorInfo } from './types.ts';

const PREFIX_BYTES = 8;
/** Small enough that parsing one piece takes a few milliseconds: the event loop turns between pieces. */
const READ_BYTES = 64 * 1024;

/**
 * Reads and checks the header of one .safetensors file; no tensor is read. Every tensor lies within the file, spans
 * exactly the bytes its dtype and shape need, and together they cover the data without overlap or hole, as the format
 * demands. At most a piece of the header is in memory at a time.
 *
 * @param file absolute path
 * @throws CheckpointError that names the file and, where there is one, the tensor; HubError where it cannot be read
 */
export async function readHeader(file: string): Promise<Map<string, TensorInfo>> {
  return reading(file, async () => {
    const { size } = await regularFile(file);
    const handle = await open(file, 'r');
    try {
      return await parseHeader(handle, size, file);
    } finally {
      await handle.close();
    }
  });
}

/** As `readHeader`, from anything that can be read at a position. */
export async function parseHeader(
  source: ByteSource,
  size: number,
  file: string,
): Promise<Map<string, TensorInfo>> {
  const headerBytes = await readHeaderLength(source, file, size);
  const parser = new HeaderParser(file, PREFIX_BYTES + headerBytes, size);
  await parsePieces(source, headerBytes, parser);
  checkLayout(parser, size - PREFIX_BYTES - headerBytes);
  return parser.tensors;
}

async function regularFile(file: string): Promise<{ size: number }> {
  const found = await stat(file);
  // A pipe or device would block or never end.
  if (!found.isFile()) throw new CheckpointError(`${file} is not a regular file. Put the file in its place`);
  return found;
}

async function readHeaderLength(source: ByteSource, file: string, size: number): Promise<number> {
  const pointer = await lfsPointerSize(source, size);
  if (pointer !== undefined) {
    throw new CheckpointError(
      `${file} is a Git LFS pointer of ${size} bytes, not the weights file of ${pointer} bytes it stands for. ` +
        'Run "git lfs pull" in that folder, or load the model by its repo id',
    );
  }
  if (size < PREFIX_BYTES + 2) {
    throw new CheckpointError(
      `${file}: ${size} bytes are too few for a safetensors header. The file is truncated or empty; fetch it again`,
    );
  }
  const prefix = Buffer.alloc(PREFIX_BYTES);
  await source.read(prefix, 0, PREFIX_BYTES, 0);
  const length = prefix.readBigUInt64LE();
  if (length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      `${file}: the header claims ${length} bytes, more than the format's limit of ${MAX_HEADER_BYTES}. ` +
        'This is no safetensors file, or it is damaged; fetch it again',
    );
  }
  if (Number(length) > size - PREFIX_BYTES) {
    throw new CheckpointError(
      `${file}: the header claims ${length} bytes, but the file has only ${size}. It is truncated; fetch it again`,
    );
  }
  return Number(length);
}

/** Feeds the header to the parser piece by piece; an entry that a piece cuts in two is read again with more bytes. */
async function parsePieces(source: ByteSource, headerBytes: number, parser: HeaderParser): Promise<void> {
  let loaded = 0;
  let rest: Buffer = Buffer.alloc(0);
  while (!parser.done || loaded < headerBytes) {
    if (rest.length > MAX_ENTRY_BYTES) throw parser.fault(`an entry is longer than ${MAX_ENTRY_BYTES} bytes`);
    const wanted = Math.min(Math.max(READ_BYTES, rest.length), headerBytes - loaded);
    const piece = Buffer.allocUnsafe(rest.length + wanted);
    rest.copy(piece);
    const { bytesRead } = await source.read(piece, rest.length, wanted, PREFIX_BYTES + loaded);
    if (bytesRead === 0) throw parser.fault('the text ends too early');
    loaded += bytesRead;
    const bytes = piece.subarray(0, rest.length + bytesRead);
    rest = bytes.subarray(parser.consume(bytes, loaded === headerBytes));
  }
}

/** Reads the header's one object, entry by entry. */
class HeaderParser {
  readonly tensors = new Map<string, TensorInfo>();
  done = false;
  #started = false;
  #metadataSeen = false;

  constructor(
    readonly file: string,
    /** Where the data begin in the file. */
    readonly dataStart: number,
    readonly fileBytes: number,
  ) {}

  /** Parses whole entries and returns how many bytes they took; the rest comes again with the next piece. */
  consume(bytes: Buffer, last: boolean): number {
    const cursor = new JsonCursor(bytes);
    for (;;) {
      const start = cursor.position;
      try {
        if (this.done) {
          if (cursor.peek() !== undefined) throw this.fault('text follows the closing brace');
          return bytes.length;
        }
        this.#step(cursor);
      } catch (error) {
        if (error instanceof JsonEndError && !last) return start;
        throw error instanceof JsonSyntaxError ? this.fault(error.message, error) : error;
      }
    }
  }

  /** One entry with the comma or brace behind it. Changes no state before it has everything. */
  #step(cursor: JsonCursor): void {
    if (!this.#started) {
      cursor.expect('{');
      this.#started = true;
      if (cursor.accept('}')) this.done = true;
      return;
    }
    const name = cursor.readString(MAX_NAME_BYTES);
    cursor.expect(':');
    if (name === '__metadata__') this.#skipMetadata(cursor);
    const tensor = name === '__metadata__' ? undefined : this.#readTensor(cursor, name);
    const closed = cursor.accept('}');
    if (!closed) cursor.expect(',');
    if (tensor !== undefined) this.#add(tensor);
    else if (this.#metadataSeen) throw this.fault('"__metadata__" is listed twice');
    else this.#metadataSeen = true;
    this.done = closed;
  }

  #add(tensor: TensorInfo): void {
    if (this.tensors.has(tensor.name)) throw this.tensorFault(tensor.name, 'is listed twice');
    if (this.tensors.size >= MAX_TENSORS) throw this.fault(`it lists more than ${MAX_TENSORS} tensors`);
    this.tensors.set(tensor.name, tensor);
  }

  #skipMetadata(cursor: JsonCursor): void {
    if (cursor.acceptWord('null')) return;
    const seen = new Set<string>();
    this.#inEntry('__metadata__', () =>
      cursor.readObject((key) => {
        if (seen.has(key)) throw new JsonSyntaxError(`the key ${quote(key)} is listed twice`);
        seen.add(key);
        cursor.readString(MAX_ENTRY_BYTES);
      }),
    );
  }

  #readTensor(cursor: JsonCursor, name: string): TensorInfo {
    const fields: { dtype?: string; shape?: number[]; data_offsets?: number[] } = {};
    this.#inEntry(name, () =>
      cursor.readObject((key) => {
        if (Object.hasOwn(fields, key)) throw new JsonSyntaxError(`the field ${quote(key)} is listed twice`);
        if (key === 'dtype') fields.dtype = cursor.readString(MAX_NAME_BYTES);
        else if (key === 'shape') fields.shape = readNumbers(cursor, MAX_RANK, 'dimensions');
        else if (key === 'data_offsets') fields.data_offsets = readNumbers(cursor, 2, 'offsets');
        else cursor.skipValue(MAX_JSON_DEPTH);
      }),
    );
    for (const field of ['dtype', 'shape', 'data_offsets'] as const) {
      if (fields[field] === undefined) throw this.tensorFault(name, `has no "${field}"`);
    }
    return this.#locate(
      name,
      fields.dtype as string,
      fields.shape as number[],
      fields.data_offsets as number[],
    );
  }

  #locate(name: string, dtype: string, shape: number[], offsets: number[]): TensorInfo {
    if (!isSafetensorsDType(dtype)) {
      const known = SAFETENSORS_DTYPES.join(', ');
      throw this.tensorFault(name, `has the unknown dtype ${quote(dtype)}; known are ${known}`);
    }
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined) {
      throw this.tensorFault(name, `has ${offsets.length} "data_offsets"; expected two`);
    }
    if (end < begin) throw this.tensorFault(name, `ends at byte ${end}, before its start ${begin}`);
    const dataBytes = this.fileBytes - this.dataStart;
    if (end > dataBytes) {
      throw this.tensorFault(
        name,
        `ends at byte ${end} of the data, but the file holds only ${dataBytes} of them ` +
          `(${this.fileBytes} bytes in all). It is truncated; fetch it again`,
      );
    }
    const needed = this.#byteLength(name, shape, storedBits(dtype));
    if (needed !== end - begin) {
      throw this.tensorFault(
        name,
        `spans ${end - begin} bytes, but dtype ${dtype} and shape [${shape.join(', ')}] need ${needed}`,
      );
    }
    return { name, file: this.file, offset: this.dataStart + begin, byteLength: needed, dtype, shape };
  }

  #byteLength(name: string, shape: readonly number[], elementBits: number): number {
    // Whole bytes are multiplied as such, so that the largest sizes stay exact.
    const [unit, perByte] = elementBits % 8 === 0 ? [elementBits / 8, 1] : [elementBits, 8];
    let size = unit;
    for (const dimension of shape) {
      size *= dimension;
      if (size > Number.MAX_SAFE_INTEGER) {
        throw this.tensorFault(name, `has shape [${shape.join(', ')}], which is more than 2^53 - 1 bytes`);
      }
    }
    if (size % perByte !== 0)
      throw this.tensorFault(
        name,
        `has ${elementBits} bits an element and shape [${shape.join(', ')}], which end within a byte`,
      );
    return size / perByte;
  }

  /** Runs a reader of one entry; its syntax errors name the entry. */
  #inEntry(name: string, read: () => void): void {
    try {
      read();
    } catch (error) {
      if (error instanceof JsonSyntaxError && !(error instanceof JsonEndError)) {
        throw this.tensorFault(name, `cannot be read: ${error.message}`);
      }
      throw error;
    }
  }

  fault(reason: string, cause?: unknown): CheckpointError {
    return new CheckpointError(`${this.file}: bad header: ${reason}. The file is damaged; fetch it again`, {
      cause,
    });
  }

  tensorFault(name: string, reason: string): CheckpointError {
    return new CheckpointError(`${this.file}: bad header: ${quote(name)} ${reason}`);
  }
}

function readNumbers(cursor: JsonCursor, limit: number, what: string): number[] {
  const numbers: number[] = [];
  cursor.readList(() => {
    if (numbers.length >= limit) throw new JsonSyntaxError(`more than ${limit} ${what}`);
    numbers.push(cursor.readUnsigned());
  });
  return numbers;
}

/** The tensors must tile the data: nothing shared, nothing unused, as every writer of the format does. */
function checkLayout(parser: HeaderParser, dataBytes: number): void {
  const sorted = [...parser.tensors.values()];
  sorted.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let expected = parser.dataStart;
  let previous: string | undefined;
  for (const { name, offset, byteLength } of sorted) {
    if (offset < expected) throw parser.tensorFault(name, `shares bytes with ${quote(previous ?? '')}`);
    if (offset > expected) {
      throw parser.tensorFault(
        name,
        `leaves ${offset - expected} unused bytes before it; the format allows none`,
      );
    }
    expected = offset + byteLength;
    if (byteLength > 0) previous = name;
  }
  const unused = parser.dataStart + dataBytes - expected;
  if (unused > 0) throw parser.fault(`${unused} bytes at the end of the file belong to no tensor`);
}

function quote(name: string): string {
  return JSON.stringify(name);
}
