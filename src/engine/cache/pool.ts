import type { DType } from '../../dtype.ts';
import { stateName } from '../../models/io.ts';
import type { CacheSpec } from '../../nn/cache-spec.ts';
import type { CacheMemory } from './memory.ts';
import { type CacheTensors, Slab, type SlabPart } from './slab.ts';

/** Positions of one block: a whole number of the key tiles that attention kernels read. */
export const BLOCK_POSITIONS = 64;

/** Blocks a pool starts with. */
const FIRST_BLOCKS = 4;
/** Blocks and slots a pool keeps while no row is open, so that the next call finds its memory, and recorded steps their addresses. */
const IDLE_BLOCKS = 64;
const IDLE_SLOTS = 4;

/** What one sequence has of the pool. */
export interface CacheRow {
  /** The blocks its positions lie in, in their order. */
  readonly blocks: readonly number[];
  /** Where its recurrent states lie; -1 without any, or before the row is reserved. */
  readonly slot: number;
}

interface OpenRow extends CacheRow {
  readonly blocks: number[];
  slot: number;
  /** Most positions it will ever hold. */
  readonly limit: number;
}

/**
 * The memory of what layers keep between passes, for all sequences of a model:
 *
 * - keys and values in blocks of {@link BLOCK_POSITIONS} positions, [blocks, kv heads, positions, head dim] for each layer. A row takes
 *   blocks as it grows. Blocks double when they run out, up to what open rows can need at most, so that a token costs no copy on average;
 * - recurrent states in slots, fp32 [slots, …] for each layer and state. A row has one slot, whatever its length. A new row's slot holds
 *   what another left there: layers begin with zeros where a row has no past.
 *
 * Whoever reserves or closes must see to it that no pass is running.
 */
export class CachePool {
  readonly #blocks: Slab;
  readonly #slots: Slab;
  readonly #keeps: { readonly blocks: boolean; readonly slots: boolean };
  readonly #rows = new Set<OpenRow>();

  /**
   * @param dtype of keys and values
   * @param onMove called before the memory moves or is freed: recordings hold addresses
   */
  constructor(specs: readonly CacheSpec[], dtype: DType, memory: CacheMemory, onMove: () => void = () => {}) {
    const blockParts = specs.flatMap((spec, layer) => keysValuesParts(spec, layer, dtype));
    const slotParts = specs.flatMap(stateParts);
    this.#blocks = new Slab(blockParts, memory, onMove);
    this.#slots = new Slab(slotParts, memory, onMove);
    this.#keeps = { blocks: blockParts.length > 0, slots: slotParts.length > 0 };
  }

  /** Blocks there are, in use or not. */
  get blocks(): number {
    return this.#blocks.size;
  }

  /** Slots there are, in use or not. */
  get slots(): number {
    return this.#slots.size;
  }

  /** Bytes of all blocks and slots. */
  get bytes(): number {
    return this.#blocks.bytes + this.#slots.bytes;
  }

  get tensors(): CacheTensors {
    return new Map([...this.#blocks.tensors, ...this.#slots.tensors]);
  }

  /** @param limit most positions the row will ever hold */
  open(limit: number): CacheRow {
    const row: OpenRow = { blocks: [], slot: -1, limit };
    this.#rows.add(row);
    return row;
  }

  /**
   * Gives rows what they need for as many positions as they are to hold.
   * @throws EngineError where there is no memory; the rows keep what they had
   */
  async reserve(wanted: readonly { readonly row: CacheRow; readonly positions: number }[]): Promise<void> {
    if (this.#keeps.blocks) await this.#reserveBlocks(wanted);
    if (this.#keeps.slots) await this.#reserveSlots(wanted.map(({ row }) => row as OpenRow));
  }

  /** Takes back what a row has. Idempotent. */
  close(row: CacheRow): void {
    const open = row as OpenRow;
    if (!this.#rows.delete(open)) return;
    this.#blocks.give(open.blocks.reverse());
    open.blocks.length = 0;
    if (open.slot >= 0) this.#slots.give([open.slot]);
    open.slot = -1;
    if (this.#rows.size > 0) return;
    if (this.#blocks.size > IDLE_BLOCKS) this.#blocks.clear();
    if (this.#slots.size > IDLE_SLOTS) this.#slots.clear();
  }

  dispose(): void {
    this.#rows.clear();
    this.#blocks.dispose();
    this.#slots.dispose();
  }

  async #reserveBlocks(wanted: readonly { readonly row: CacheRow; readonly positions: number }[]) {
    const missing = wanted.map(({ row, positions }) => Math.max(0, blocksFor(positions) - row.blocks.length));
    const needed = missing.reduce((a, b) => a + b, 0);
    const { size, free } = this.#blocks;
    if (needed > free) {
      const most = [...this.#rows].reduce((sum, row) => sum + blocksFor(row.limit), 0);
      await this.#blocks.grow(grown(size, size - free + needed, most, FIRST_BLOCKS));
    }
    for (const [i, { row }] of wanted.entries())
      for (let n = missing[i] as number; n > 0; n--) (row as OpenRow).blocks.push(this.#blocks.take());
  }

  async #reserveSlots(rows: readonly OpenRow[]): Promise<void> {
    const without = rows.filter(({ slot }) => slot < 0);
    const { size, free } = this.#slots;
    if (without.length > free)
      await this.#slots.grow(grown(size, size - free + without.length, this.#rows.size, 1));
    for (const row of without) row.slot = this.#slots.take();
  }
}

/** How large to make a slab that is to hold `needed` pieces, of which there will be `most` at most. */
function grown(size: number, needed: number, most: number, first: number): number {
  // Some more than is needed now: the next token should not move all that a long prompt has just filled.
  const wanted = Math.max(2 * size, needed + Math.ceil(needed / 16), first);
  return Math.max(needed, Math.min(wanted, most));
}

function keysValuesParts(spec: CacheSpec, layer: number, dtype: DType): SlabPart[] {
  if (spec.kind !== 'keys_values') return [];
  const dims = [spec.kvHeads, BLOCK_POSITIONS, spec.headDim];
  return ['key', 'value'].map((part) => ({ name: stateName(layer, part), dtype, dims }));
}

function stateParts(spec: CacheSpec, layer: number): SlabPart[] {
  if (spec.kind !== 'recurrent') return [];
  return Object.entries(spec.states).map(([state, dims]) => ({
    name: stateName(layer, state),
    dtype: 'float32',
    dims,
  }));
}

/** Blocks that hold so many positions. */
export function blocksFor(positions: number): number {
  return Math.ceil(positions / BLOCK_POSITIONS);
}
