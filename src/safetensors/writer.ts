import { type SafetensorsDType, storedBits } from '../dtype.ts';
import type { TensorInfo } from './types.ts';

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
  /** Where each tensor lies, by its name. */
  readonly places: ReadonlyMap<string, TensorPlace>;
  /** Of the whole file. */
  readonly bytes: number;
}

/** Where a tensor lies in a file. */
export type TensorPlace = Omit<TensorInfo, 'file' | 'storedName'>;

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
  const ranges: TensorPlace[] = [];
  let end = 0;
  for (const { name, dtype, shape } of bySize) {
    const range = { name, dtype, shape, offset: end, byteLength: byteLength({ dtype, shape }) };
    end += range.byteLength;
    entries[name] = { dtype, shape, data_offsets: [range.offset, end] };
    ranges.push(range);
  }
  const json = Buffer.from(JSON.stringify(entries));
  const padded = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const header = Buffer.alloc(8 + padded, ' ');
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, 8);
  const places = ranges.map((range) => ({ ...range, offset: header.length + range.offset }));
  return { header, places: new Map(places.map((place) => [place.name, place])), bytes: header.length + end };
}

/** Bytes of a tensor's elements. */
export function byteLength({ dtype, shape }: Pick<NewTensor, 'dtype' | 'shape'>): number {
  return (shape.reduce((a, b) => a * b, 1) * storedBits(dtype)) / 8;
}
