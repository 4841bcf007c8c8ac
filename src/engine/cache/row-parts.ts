/** What a row keeps as tensors of its own: keys and values without blocks, and recurrent states. */
import { type DType, ELEMENT_TYPES } from '../../dtype.ts';
import { stateName } from '../../models/io.ts';
import type { CacheSpec } from '../../nn/cache-spec.ts';
import type { SlabPart } from './slab.ts';

/** A tensor of a row: keys or values [kv heads, positions, head dim], or a recurrent state. */
export interface RowPart {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly number[];
}

/** What a layer keeps of a block of positions. */
export function keysValuesParts(spec: CacheSpec, layer: number, dtype: DType, positions: number): SlabPart[] {
  if (spec.kind !== 'keys_values') return [];
  const dims = [spec.kvHeads, positions, spec.headDim];
  const parts = ['key', 'value'].map((part) => ({ name: stateName(layer, part), dtype, dims }));
  if (spec.indexDim === undefined) return parts;
  return [...parts, { name: stateName(layer, 'index'), dtype, dims: [1, positions, spec.indexDim] }];
}

/** What a recurrent layer keeps of a row. */
export function stateParts(spec: CacheSpec, layer: number): SlabPart[] {
  if (spec.kind !== 'recurrent') return [];
  return Object.entries(spec.states).map(([state, dims]) => ({
    name: stateName(layer, state),
    dtype: 'float32',
    dims,
  }));
}

/** Keys or values [kv heads, positions, head dim] of blocks [kv heads, block positions, head dim] each. */
export function joinBlocks(blocks: readonly Uint8Array[], part: SlabPart, positions: number): Uint8Array {
  const { headBytes, width, size } = geometry(part, positions);
  const joined = new Uint8Array((part.dims[0] as number) * headBytes);
  for (const [i, block] of blocks.entries())
    eachStretch(part, positions, i, (head, first, count) => {
      const from = head * size * width;
      joined.set(block.subarray(from, from + count * width), head * headBytes + first * width);
    });
  return joined;
}

/** The inverse; what a block has beyond the positions is 0. */
export function splitBlocks(bytes: Uint8Array, part: SlabPart, positions: number): Uint8Array[] {
  const { headBytes, width, size } = geometry(part, positions);
  return Array.from({ length: Math.ceil(positions / size) }, (_, i) => {
    const block = new Uint8Array((part.dims[0] as number) * size * width);
    eachStretch(part, positions, i, (head, first, count) => {
      const from = head * headBytes + first * width;
      block.set(bytes.subarray(from, from + count * width), head * size * width);
    });
    return block;
  });
}

/** Bytes of all positions of a head and of one of them, and positions of a block. */
function geometry({ dtype, dims: [, size, values] }: SlabPart, positions: number) {
  const width = (values as number) * ELEMENT_TYPES[dtype].bytes;
  return { headBytes: positions * width, width, size: size as number };
}

/** Calls `visit` for each head with the first position that block `index` holds, and their number. */
function eachStretch(
  { dims: [heads, size] }: SlabPart,
  positions: number,
  index: number,
  visit: (head: number, first: number, count: number) => void,
): void {
  const first = index * (size as number);
  const count = Math.min(size as number, positions - first);
  for (let head = 0; head < (heads as number); head++) visit(head, first, count);
}
