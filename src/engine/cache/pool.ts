import type { DType } from '../../dtype.ts';
import { stateName } from '../../models/io.ts';
import type { CacheSpec } from '../../nn/cache-spec.ts';
import type { CacheMemory } from './memory.ts';
import { PrefixTree, type StateHolders } from './prefix-tree.ts';
import { type CacheTensors, Slab, type SlabPart } from './slab.ts';

/** Positions of one block: a whole number of the key tiles that attention kernels read. */
export const BLOCK_POSITIONS = 64;

/** Blocks a pool starts with that keeps no prefixes; otherwise as many as when it is idle. */
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

/** What a row is to hold. */
export interface Reservation {
  readonly row: CacheRow;
  /** Positions it holds, which stay. */
  readonly computed: number;
  readonly positions: number;
}

export interface PoolOptions {
  /** Of keys and values. */
  readonly dtype: DType;
  readonly memory: CacheMemory;
  /** Most bytes of blocks and states that are kept of sequences that have ended; 0: none. */
  readonly prefixBytes?: number;
  /** Called before the memory moves or is freed: recordings hold addresses. */
  readonly onMove?: () => void;
}

/**
 * The memory of what layers keep between passes, for all sequences of a model:
 *
 * - keys and values in blocks of {@link BLOCK_POSITIONS} positions, [blocks, kv heads, positions, head dim] for each layer. A row takes
 *   blocks as it grows. Blocks double when they run out, up to what open rows can need at most, so that a token costs no copy on average;
 * - recurrent states in slots, fp32 [slots, …] for each layer and state. A row has one slot, whatever its length. A new row's slot holds
 *   what another left there: layers begin with zeros where a row has no past.
 *
 * Rows that begin alike share blocks, and so do a row and its forks; whoever writes to one that others hold gets a copy of it first. Blocks
 * of rows that were closed stay in the tree of prefixes until they are needed otherwise, and so do states, from which other rows go on.
 *
 * Whoever reserves or trims must see to it that no pass is running.
 */
export class CachePool {
  /** Beginnings of sequences whose keys and values are known. */
  readonly prefixes: PrefixTree;
  readonly #blocks: Slab;
  readonly #slots: Slab;
  readonly #keeps: { readonly blocks: boolean; readonly slots: boolean };
  readonly #rows = new Set<OpenRow>();

  constructor(specs: readonly CacheSpec[], options: PoolOptions) {
    const { dtype, memory, prefixBytes = 0, onMove = () => {} } = options;
    const blockParts = specs.flatMap((spec, layer) => keysValuesParts(spec, layer, dtype));
    const slotParts = specs.flatMap(stateParts);
    this.#blocks = new Slab(blockParts, memory, onMove);
    this.#slots = new Slab(slotParts, memory, onMove);
    this.#keeps = { blocks: blockParts.length > 0, slots: slotParts.length > 0 };
    const { pieceBytes } = this.#blocks;
    // Prefixes are found by their blocks.
    const prefixBlocks = this.#keeps.blocks ? Math.floor(prefixBytes / pieceBytes) : 0;
    this.prefixes = new PrefixTree(
      this.#blocks,
      BLOCK_POSITIONS,
      prefixBlocks,
      this.#keeps.slots ? stateHolders(this.#slots, pieceBytes) : undefined,
    );
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
   * A row that goes on from where another is.
   * @param computed positions that the other holds
   */
  fork(row: CacheRow, computed: number): CacheRow {
    const { limit } = row as OpenRow;
    const shared = row.blocks.slice(0, blocksFor(computed));
    const slot = computed > 0 && row.slot >= 0 ? this.#slots.share(row.slot) : -1;
    const fork: OpenRow = { blocks: shared.map((block) => this.#blocks.share(block)), slot, limit };
    this.#rows.add(fork);
    return fork;
  }

  /** Makes a row's first blocks others that hold the same tokens. */
  adopt(row: CacheRow, blocks: readonly number[], from = 0): void {
    const own = (row as OpenRow).blocks;
    for (const [i, block] of blocks.entries()) {
      if (own[from + i] === block) continue;
      this.#blocks.share(block);
      if (from + i < own.length) this.#blocks.give(own[from + i] as number);
      own[from + i] = block;
    }
  }

  /** Makes a row's recurrent states those that lie in a slot. */
  adoptState(row: CacheRow, slot: number): void {
    const own = row as OpenRow;
    this.#slots.share(slot);
    if (own.slot >= 0) this.#slots.give(own.slot);
    own.slot = slot;
  }

  /**
   * Gives rows what they need for as many positions as they are to hold, and of what they will write to copies of their own.
   * @throws EngineError where there is no memory; the rows keep what they had
   */
  async reserve(wanted: readonly Reservation[]): Promise<void> {
    if (this.#keeps.blocks) await this.#reserveBlocks(wanted);
    if (this.#keeps.slots) await this.#reserveSlots(wanted.map(({ row }) => row as OpenRow));
  }

  /** Takes back what a row has. Idempotent. */
  close(row: CacheRow): void {
    const open = row as OpenRow;
    if (!this.#rows.delete(open)) return;
    for (const block of open.blocks.reverse()) this.#blocks.give(block);
    open.blocks.length = 0;
    if (open.slot >= 0) this.#slots.give(open.slot);
    open.slot = -1;
  }

  /** Whether `trim` would give memory back. */
  get isTooLarge(): boolean {
    if (this.#rows.size > 0) return false;
    const { size, stateCount } = this.prefixes;
    return this.#blocks.size > IDLE_BLOCKS + 2 * size || this.#slots.size > IDLE_SLOTS + 2 * stateCount;
  }

  /** Gives memory back where no row is open: all but a little, and what the prefixes take. */
  async trim(): Promise<void> {
    if (!this.isTooLarge) return;
    const { size, stateCount } = this.prefixes;
    await trimTo(stateCount, IDLE_SLOTS, this.#slots, (numberOf) => this.prefixes.renumberStates(numberOf));
    await trimTo(size, IDLE_BLOCKS, this.#blocks, (numberOf) => this.prefixes.renumber(numberOf));
  }

  dispose(): void {
    this.#rows.clear();
    this.prefixes.clear();
    this.#blocks.dispose();
    this.#slots.dispose();
  }

  async #reserveBlocks(wanted: readonly Reservation[]): Promise<void> {
    const missing = ({ row, positions }: Reservation) =>
      Math.max(0, blocksFor(positions) - row.blocks.length);
    const written = ({ computed }: Reservation) => Math.floor(computed / BLOCK_POSITIONS);
    const isShared = ({ row, ...rest }: Reservation) => {
      const block = row.blocks[written({ row, ...rest })];
      return block !== undefined && this.#blocks.isShared(block);
    };
    await this.#makeRoom(wanted.reduce((sum, row) => sum + missing(row) + (isShared(row) ? 1 : 0), 0));
    const copies: { from: number; to: number }[] = [];
    for (const reservation of wanted) {
      const { blocks } = reservation.row as OpenRow;
      // Of those that share a block, the last one may keep it.
      if (isShared(reservation)) {
        const place = written(reservation);
        const [from, to] = [blocks[place] as number, this.#blocks.take()];
        if (reservation.computed % BLOCK_POSITIONS > 0) copies.push({ from, to });
        blocks[place] = to;
        this.#blocks.give(from);
      }
      for (let n = missing(reservation); n > 0; n--) blocks.push(this.#blocks.take());
    }
    if (copies.length > 0) await this.#blocks.copy(copies);
  }

  /** Sees to it that so many blocks are free. */
  async #makeRoom(needed: number): Promise<void> {
    const { size, free } = this.#blocks;
    if (needed <= free) return;
    const limits = [...this.#rows].reduce((sum, row) => sum + blocksFor(row.limit), 0);
    try {
      const { most: kept } = this.prefixes;
      const first = kept > 0 ? IDLE_BLOCKS : FIRST_BLOCKS;
      await this.#blocks.grow(grown(size, size - free + needed, limits + kept, first));
    } catch (error) {
      this.prefixes.evict(needed - this.#blocks.free);
      if (needed > this.#blocks.free) throw error;
    }
  }

  async #reserveSlots(rows: readonly OpenRow[]): Promise<void> {
    const needy = rows.filter(({ slot }) => slot < 0 || this.#slots.isShared(slot));
    if (needy.length > this.#slots.free) await this.#growSlots(needy.length);
    const copies: { from: number; to: number }[] = [];
    for (const row of needy) {
      const from = row.slot;
      if (from >= 0 && !this.#slots.isShared(from)) continue;
      row.slot = this.#slots.take();
      if (from < 0) continue;
      copies.push({ from, to: row.slot });
      this.#slots.give(from);
    }
    if (copies.length > 0) await this.#slots.copy(copies);
  }

  /** Sees to it that so many slots are free. */
  async #growSlots(needed: number): Promise<void> {
    const { size, free } = this.#slots;
    const { most, keepsStates } = this.prefixes;
    const kept =
      keepsStates && most > 0 ? Math.floor((most * this.#blocks.pieceBytes) / this.#slots.pieceBytes) : 0;
    const limit = this.#rows.size + kept;
    try {
      await this.#slots.grow(grown(size, size - free + needed, limit, kept > 0 ? IDLE_SLOTS : 1));
    } catch (error) {
      this.prefixes.evictStates(needed - this.#slots.free);
      if (needed > this.#slots.free) throw error;
    }
  }
}

/** Gives back what a slab has beyond `kept` pieces that are in use, but for a little. */
async function trimTo(
  kept: number,
  idle: number,
  slab: Slab,
  renumber: (numberOf: (piece: number) => number) => void,
): Promise<void> {
  if (slab.size <= idle + 2 * kept) return;
  if (kept === 0) return slab.clear();
  const moved = await slab.shrink(kept + Math.min(idle, kept));
  renumber((piece) => moved.get(piece) ?? piece);
}

function stateHolders(slots: Slab, blockBytes: number): StateHolders {
  return {
    blocks: slots.pieceBytes / blockBytes,
    share: (slot) => slots.share(slot),
    give: (slot) => slots.give(slot),
    isShared: (slot) => slots.isShared(slot),
  };
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
  const parts = ['key', 'value'].map((part) => ({ name: stateName(layer, part), dtype, dims }));
  if (spec.indexDim === undefined) return parts;
  return [...parts, { name: stateName(layer, 'index'), dtype, dims: [1, BLOCK_POSITIONS, spec.indexDim] }];
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
