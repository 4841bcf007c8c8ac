// The machine code for GPUs within a library: a fat binary for each source, with an entry for each architecture. What a card does not need is
// zeroed where it lies, so that nothing moves and the library compresses to what is left.
//
// A fat binary is a header of 16 bytes (magic, u16 version 1, u16 header bytes, u64 bytes of its entries) and entries, of each: u16 kind, u16
// version, u32 header bytes, u64 payload bytes, u32 bytes of the payload if it is compressed, …, u32 architecture at 28, …, u64 flags at 40.
const MAGIC = Buffer.from([0x50, 0xed, 0x55, 0xba]);
const HEADER_BYTES = 16;
const PTX = 1;
const MACHINE_CODE = 2;
const ZSTD = 0x8000n;
const LZ4 = 0x2000n;

/** @returns {{ kind, architecture, from, to, packed, flags }[][]} the entries of each fat binary; from and to bound the payload, in bytes */
export function fatBinariesOf(bytes) {
  const found = [];
  for (let at = bytes.indexOf(MAGIC); at >= 0; ) {
    const whole = at + HEADER_BYTES <= bytes.length;
    const isHeader = whole && bytes.readUInt16LE(at + 4) === 1 && bytes.readUInt16LE(at + 6) === HEADER_BYTES;
    const end = isHeader ? at + HEADER_BYTES + Number(bytes.readBigUInt64LE(at + 8)) : Infinity;
    // The magic number may occur by chance.
    if (end > bytes.length) {
      at = bytes.indexOf(MAGIC, at + 1);
      continue;
    }
    found.push(entriesOf(bytes, at + HEADER_BYTES, end));
    at = bytes.indexOf(MAGIC, end);
  }
  return found;
}

function entriesOf(bytes, start, end) {
  const entries = [];
  for (let at = start; at + 64 <= end; ) {
    const from = at + bytes.readUInt32LE(at + 4);
    const to = from + Number(bytes.readBigUInt64LE(at + 8));
    entries.push({
      ...{ kind: bytes.readUInt16LE(at), architecture: bytes.readUInt32LE(at + 28) },
      ...{ from, to, packed: bytes.readUInt32LE(at + 16), flags: bytes.readBigUInt64LE(at + 40) },
    });
    at = to;
  }
  return entries;
}

/** The entry that the driver takes for an architecture, such as 90: machine code of its generation, else the newest PTX. */
function entryFor(entries, architecture) {
  const newest = (fits) =>
    entries
      .filter((entry) => entry.architecture <= architecture && fits(entry))
      .sort((a, b) => b.architecture - a.architecture)[0];
  const generation = (number) => Math.floor(number / 10);
  const isOfGeneration = (entry) => generation(entry.architecture) === generation(architecture);
  return (
    newest((entry) => entry.kind === MACHINE_CODE && isOfGeneration(entry)) ??
    newest((entry) => entry.kind === PTX)
  );
}

/** Mangled names of the kernels in machine code; undefined where it is compressed in a way that `unpack` does not know. */
function kernelNames(bytes, { kind, from, to, packed, flags }, unpack) {
  if (kind !== MACHINE_CODE || (flags & LZ4) !== 0n) return undefined;
  const payload =
    (flags & ZSTD) === 0n ? bytes.subarray(from, to) : unpack(bytes.subarray(from, from + packed));
  const sections = payload?.toString('latin1').match(/\.text\.\w+/g);
  return sections && [...new Set(sections.map((name) => name.slice('.text.'.length)))];
}

/**
 * Zeroes, in place, what cards of other architectures need, and sources whose kernels are not wanted.
 *
 * @param bytes a library
 * @param architectures such as [80, 90]
 * @param options.isWanted asked with the kernels' mangled names of a source, where they can be read
 * @param options.unpack payload compressed by zstd → its bytes, or undefined where it cannot be unpacked
 * @returns {{ keptBytes: number, zeroedBytes: number, unwanted: number }} `unwanted`: sources left out for their kernels
 * @throws Error where there is no fat binary, or one architecture has no code
 */
export function pruneFatBinaries(
  bytes,
  architectures,
  { isWanted = () => true, unpack = () => undefined } = {},
) {
  const groups = fatBinariesOf(bytes);
  if (groups.length === 0) throw new Error('there is no code for GPUs in it');
  const served = new Set();
  const result = { keptBytes: 0, zeroedBytes: 0, unwanted: 0 };
  for (const entries of groups) {
    const taken = new Set();
    for (const architecture of architectures) {
      const entry = entryFor(entries, architecture);
      if (entry === undefined) continue;
      taken.add(entry);
      served.add(architecture);
    }
    const [first] = taken;
    const names = first && kernelNames(bytes, first, unpack);
    if (names && !isWanted(names)) {
      taken.clear();
      result.unwanted++;
    }
    for (const entry of entries) {
      const { from, to } = entry;
      if (taken.has(entry)) result.keptBytes += to - from;
      else {
        bytes.fill(0, from, to);
        result.zeroedBytes += to - from;
      }
    }
  }
  const without = architectures.filter((architecture) => !served.has(architecture));
  if (without.length === 0) return result;
  const all = groups
    .flat()
    .map(({ kind, architecture }) => `${kind === PTX ? 'compute' : 'sm'}_${architecture}`);
  throw new Error(
    `it has no code for sm_${without.join(', sm_')}, only for ${[...new Set(all)].sort().join(', ')}`,
  );
}
