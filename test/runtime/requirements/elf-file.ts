/** Writes the smallest ELF-64 shared library that has a dynamic section. */

/** Where the dynamic section and the strings lie in the file; in memory everything lies `BASE` higher. */
const HEADER = 64;
const SEGMENT = 56;
const BASE = 0x10000;

export function elfFile(needed: readonly string[], runPath?: string): Uint8Array {
  const strings = [...needed, ...(runPath === undefined ? [] : [runPath])];
  const starts: number[] = [];
  let table = '\0';
  for (const text of strings) {
    starts.push(table.length);
    table += `${text}\0`;
  }
  const dynamic = HEADER + 2 * SEGMENT;
  const entries: [tag: number, value: number][] = strings.map((_, i) => [
    i < needed.length ? 1 : 29,
    starts[i] as number,
  ]);
  const tableStart = dynamic + (entries.length + 3) * 16;
  entries.push([5, BASE + tableStart], [10, table.length], [0, 0]);
  const bytes = new Uint8Array(tableStart + table.length);
  const view = new DataView(bytes.buffer);
  const write64 = (offset: number, value: number) => view.setBigUint64(offset, BigInt(value), true);

  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  write64(32, HEADER);
  view.setUint16(54, SEGMENT, true);
  view.setUint16(56, 2, true);
  const segment = (index: number, type: number, offset: number, length: number) => {
    const start = HEADER + index * SEGMENT;
    view.setUint32(start, type, true);
    write64(start + 8, offset);
    write64(start + 16, BASE + offset);
    write64(start + 32, length);
  };
  segment(0, 1, 0, bytes.length);
  segment(1, 2, dynamic, entries.length * 16);
  entries.forEach(([tag, value], i) => {
    write64(dynamic + i * 16, tag);
    write64(dynamic + i * 16 + 8, value);
  });
  bytes.set(new TextEncoder().encode(table), tableStart);
  return bytes;
}
