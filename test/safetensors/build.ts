import { writeFile } from 'node:fs/promises';
import { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import type { Repo } from '../../src/hub/types.ts';

export interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Bytes of an element, from the format's description. */
export const BYTES: Record<string, number> = {
  ...{ BOOL: 1, U8: 1, I8: 1, F8_E5M2: 1, F8_E4M3: 1, F8_E8M0: 1, F8_E4M3FNUZ: 1, F8_E5M2FNUZ: 1 },
  ...{ I16: 2, U16: 2, F16: 2, BF16: 2 },
  ...{ I32: 4, U32: 4, F32: 4 },
  ...{ F64: 8, I64: 8, U64: 8, C64: 8 },
};

/** Lays tensors out one after the other, as every writer does. */
export function layOut(tensors: Record<string, [dtype: string, ...shape: number[]]>): Record<string, Entry> {
  const header: Record<string, Entry> = {};
  let end = 0;
  for (const [name, [dtype, ...shape]] of Object.entries(tensors)) {
    const begin = end;
    end += shape.reduce((product, dimension) => product * dimension, BYTES[dtype] as number);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  return header;
}

/** A file from a header (object or literal text) and as many data bytes as it needs, counting up. */
export function fileOf(header: unknown, dataBytes?: number): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const ends = Object.values((typeof header === 'object' ? header : {}) as Record<string, Entry>).map(
    (entry) => entry?.data_offsets?.[1] ?? 0,
  );
  const data = Buffer.alloc(dataBytes ?? Math.max(0, ...ends));
  for (let i = 0; i < data.length; i++) data[i] = i;
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([prefix, text, data]);
}

/** The message of the error that `work` rejects with. */
export async function messageOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: Error) => `${error.name}: ${error.message}`,
  );
}

/** Writes files into a folder and opens it as a repo. */
export async function repoOf(folder: string, files: Record<string, Buffer | string>): Promise<Repo> {
  for (const [name, bytes] of Object.entries(files)) await writeFile(`${folder}/${name}`, bytes);
  return new FolderRepo('test', folder);
}
