import { type SafetensorsDType, storedBits } from '../dtype.ts';

/** A tensor that is to be written. */
export interface NewTensor {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/** A safetensors file before its tensors are written. */
export interface FileLayout {
  /** Length and JSON of the header, as the file begins. */
  readonly header: Buffer;
  /** Where each tensor begins, in bytes from the start of the file. */
  readonly offsets: ReadonlyMap<string, number>;
  /** Of the whole file. */
  readonly bytes: number;
}

/** Data begins at a multiple of it; spaces fill the header up. */
const ALIGNMENT = 8;

/**
 * Lays tensors out in a file: those of large elements first, so that each begins at a multiple of its element's size, and without gaps,
 * as the format wants it.
 */
export function layOut(
  tensors: readonly NewTensor[],
  metadata: Readonly<Record<string, string>>,
): FileLayout {
  const bySize = [...tensors].sort((a, b) => storedBits(b.dtype) - storedBits(a.dtype));
  const entries: Record<string, unknown> = { __metadata__: metadata };
  const begins = new Map<string, number>();
  let end = 0;
  for (const { name, dtype, shape } of bySize) {
    const begin = end;
    end += byteLength({ dtype, shape });
    entries[name] = { dtype, shape, data_offsets: [begin, end] };
    begins.set(name, begin);
  }
  const json = Buffer.from(JSON.stringify(entries));
  const padded = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const header = Buffer.alloc(8 + padded, ' ');
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, 8);
  const offsets = new Map([...begins].map(([name, begin]) => [name, header.length + begin]));
  return { header, offsets, bytes: header.length + end };
}

/** Bytes of a tensor's elements. */
export function byteLength({ dtype, shape }: Pick<NewTensor, 'dtype' | 'shape'>): number {
  return (shape.reduce((a, b) => a * b, 1) * storedBits(dtype)) / 8;
}
