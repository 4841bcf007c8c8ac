/** What a shared library says it needs, read from its dynamic section (System V ABI, ELF-64, little-endian). */

/** Bytes of the file, or undefined where it cannot be read. */
export type ReadAt = (offset: number, length: number) => Uint8Array | undefined;

export interface Dependencies {
  /** Names of the libraries it is linked against, such as `libcudart.so.12`. */
  readonly needed: readonly string[];
  /** Folders it asks the loader to search; `$ORIGIN` is its own. */
  readonly runPath: readonly string[];
}

const LOAD = 1;
const DYNAMIC = 2;
const NEEDED = 1;
const STRING_TABLE = 5;
const STRING_BYTES = 10;
const RPATH = 15;
const RUNPATH = 29;
/** Real libraries have dynamic sections and string tables far below this; a damaged file must not ask for more. */
const MOST_BYTES = 64 * 1024 ** 2;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly bytes: number;
}

/** Dependencies of a shared library; undefined where the file is not one that can be read. */
export function readDependencies(readAt: ReadAt): Dependencies | undefined {
  const read = (offset: number, length: number) => exactly(readAt, offset, length);
  const segments = readSegments(read);
  const dynamic = segments?.find(({ type }) => type === DYNAMIC);
  const section = dynamic && read(dynamic.offset, dynamic.bytes);
  if (!segments || !section) return undefined;
  const entries = Array.from({ length: Math.floor(section.byteLength / 16) }, (_, i) => ({
    tag: number64(section, i * 16),
    value: number64(section, i * 16 + 8),
  }));
  const valueFor = (tag: number) => entries.find((entry) => entry.tag === tag)?.value;
  const table = readStrings(read, segments, valueFor(STRING_TABLE), valueFor(STRING_BYTES));
  if (!table) return undefined;
  const strings = (...tags: number[]) =>
    entries.filter(({ tag }) => tags.includes(tag)).map(({ value }) => stringAt(table, value));
  return {
    needed: strings(NEEDED),
    runPath: strings(RPATH, RUNPATH).flatMap((path) => path.split(':').filter((folder) => folder !== '')),
  };
}

function exactly(readAt: ReadAt, offset: number, length: number): DataView | undefined {
  if (!(length <= MOST_BYTES)) return undefined;
  const bytes = readAt(offset, length);
  if (bytes === undefined || bytes.byteLength < length) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

function readSegments(read: (offset: number, length: number) => DataView | undefined): Segment[] | undefined {
  const header = read(0, 64);
  const is64LittleEndian = header?.getUint32(0) === 0x7f454c46 && header.getUint16(4) === 0x0201;
  if (!header || !is64LittleEndian) return undefined;
  const size = header.getUint16(54, true);
  const count = header.getUint16(56, true);
  const table = read(number64(header, 32), size * count);
  if (!table || size < 56) return undefined;
  return Array.from({ length: count }, (_, i) => ({
    type: table.getUint32(i * size, true),
    offset: number64(table, i * size + 8),
    address: number64(table, i * size + 16),
    bytes: number64(table, i * size + 32),
  }));
}

/** The string table is named by its address in memory; the segment around it tells where that is in the file. */
function readStrings(
  read: (offset: number, length: number) => DataView | undefined,
  segments: readonly Segment[],
  address: number | undefined,
  bytes: number | undefined,
): DataView | undefined {
  if (address === undefined || bytes === undefined) return undefined;
  const home = segments.find(
    (segment) =>
      segment.type === LOAD && address >= segment.address && address < segment.address + segment.bytes,
  );
  return home && read(address - home.address + home.offset, bytes);
}

function stringAt(table: DataView, start: number): string {
  const bytes = new Uint8Array(table.buffer, table.byteOffset, table.byteLength).subarray(start);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function number64(view: DataView, offset: number): number {
  return Number(view.getBigUint64(offset, true));
}
