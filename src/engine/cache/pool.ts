import type { DType } from '../../dtype.ts';
import { EngineError } from '../../errors.ts';
import type { CacheSpec } from '../../nn/cache-spec.ts';
import { formatBytes } from '../../units.ts';
import type { CacheMemory } from './memory.ts';
import { PrefixTree, type StateHolders } from './prefix-tree.ts';
import { joinBlocks, keysValuesParts, type RowPart, splitBlocks, stateParts } from './row-parts.ts';
import { type CacheTensors, Slab } from './slab.ts';
import { grown, inPieces, isLoose, tighten, trimmed } from './slab-size.ts';

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
  /** Whether it is only kept, and takes part in no pass. */
  rests: boolean;
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
  /** Most bytes of all blocks and slots; default: as many as there is memory for. */
  readonly maxBytes?: number | undefined;
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
  #isDisposed = false;
  readonly #maxBytes: number;

  constructor(specs: readonly CacheSpec[], options: PoolOptions) {
    const {
      dtype,
      memory,
      prefixBytes = 0,
      maxBytes = Number.POSITIVE_INFINITY,
      onMove = () => {},
    } = options;
    this.#maxBytes = maxBytes;
    const blockParts = specs.flatMap((spec, layer) => keysValuesParts(spec, layer, dtype, BLOCK_POSITIONS));
    const slotParts = specs.flatMap(stateParts);
    this.#blocks = new Slab(blockParts, memory, onMove);
    this.#slots = new Slab(slotParts, memory, onMove);
    this.#keeps = { blocks: blockParts.length > 0, slots: slotParts.length > 0 };
    const { pieceBytes } = this.#blocks;
    // Prefixes are found by their blocks.
    const prefixBlocks = this.#keeps.blocks ? Math.floor(Math.min(prefixBytes, maxBytes) / pieceBytes) : 0;
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
    const row: OpenRow = { blocks: [], slot: -1, limit, rests: false };
    this.#rows.add(row);
    return row;
  }

  /**
   * A row that goes on from where another is.
   * @param computed positions that the other holds
   * @param limit most positions the row will ever hold; by default those of the other
   */
  fork(row: CacheRow, computed: number, limit = (row as OpenRow).limit): CacheRow {
    const shared = row.blocks.slice(0, blocksFor(computed));
    const slot = computed > 0 && row.slot >= 0 ? this.#slots.share(row.slot) : -1;
    const blocks = shared.map((block) => this.#blocks.share(block));
    const fork: OpenRow = { blocks, slot, limit, rests: false };
    this.#rows.add(fork);
    return fork;
  }

  /** Says of a row that it is only kept from now on: its memory may be moved when nobody computes. */
  rest(row: CacheRow): void {
    (row as OpenRow).rests = true;
  }

  /** The tensors of a row that holds so many positions, without blocks. */
  partsOf(positions: number): RowPart[] {
    const keysValues = this.#blocks.parts.map(({ name, dtype, dims: [heads, , width] }) => ({
      ...{ name, dtype, dims: [heads as number, positions, width as number] },
    }));
    return [...keysValues, ...this.#slots.parts];
  }

  /** The bytes of one of them, wherever it lies; no pass may be running. */
  async readPart(row: CacheRow, positions: number, { name }: RowPart): Promise<Uint8Array> {
    const part = this.#blocks.parts.find((one) => one.name === name);
    if (!part) return this.#slots.read(name, row.slot);
    const blocks: Uint8Array[] = [];
    for (const block of row.blocks.slice(0, blocksFor(positions)))
      blocks.push(await this.#blocks.read(name, block));
    return joinBlocks(blocks, part, positions);
  }

  /** Writes one of them to a row that has been reserved for so many positions and shares nothing. */
  async writePart(row: CacheRow, positions: number, { name }: RowPart, bytes: Uint8Array): Promise<void> {
    const part = this.#blocks.parts.find((one) => one.name === name);
    if (!part) return this.#slots.write(name, row.slot, bytes);
    for (const [i, block] of splitBlocks(bytes, part, positions).entries())
      await this.#blocks.write(name, row.blocks[i] as number, block);
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
    if (this.#keeps.slots) await this.#reserveSlots(this.#needy(wanted));
  }

  /** Bytes of the blocks and slots of rows with so many positions each, and of those that they write to in place of shared ones. */
  bytesFor(positions: readonly number[]): number {
    const [blocks, slots] = [this.#blocks.pieceBytes, this.#slots.pieceBytes];
    return positions.reduce((sum, count) => sum + (blocksFor(count) + 1) * blocks + 2 * slots, 0);
  }

  /** Bytes of the least bound that a row can be computed under. */
  get leastBytes(): number {
    return this.bytesFor([1]);
  }

  /** Most positions of a row that the bound leaves room for. */
  get mostPositions(): number {
    if (this.#maxBytes === Number.POSITIVE_INFINITY || !this.#keeps.blocks) return Number.POSITIVE_INFINITY;
    const blocks = Math.floor((this.#maxBytes - this.bytesFor([0])) / this.#blocks.pieceBytes);
    return Math.max(0, blocks) * BLOCK_POSITIONS;
  }

  /** Whether there is room for what rows are to hold within the bound, once prefixes have given way. */
  fits(wanted: readonly Reservation[]): boolean {
    if (this.#maxBytes === Number.POSITIVE_INFINITY) return true;
    const [blocks, slots] = [this.#blocksNeeded(wanted), this.#needy(wanted).length];
    if (blocks <= this.#blocks.free && slots <= this.#slots.free) return true;
    const { idle } = this.prefixes;
    const bytes = (slab: Slab, unused: number, needed: number) =>
      (slab.size - slab.free - unused + needed) * slab.pieceBytes;
    const all = bytes(this.#blocks, idle.blocks, blocks) + bytes(this.#slots, idle.states, slots);
    return all <= this.#maxBytes;
  }

  /** Takes back what a row has. Idempotent. */
  close(row: CacheRow): void {
    this.empty(row);
    this.#rows.delete(row as OpenRow);
  }

  /** Takes back what a row has, which begins anew. */
  empty(row: CacheRow): void {
    const open = row as OpenRow;
    if (!this.#rows.has(open)) return;
    for (const block of open.blocks.reverse()) this.#blocks.give(block);
    open.blocks.length = 0;
    if (open.slot >= 0) this.#slots.give(open.slot);
    open.slot = -1;
  }

  /** Whether `trim` would give memory back. */
  get isTooLarge(): boolean {
    if ([...this.#rows].some(({ rests }) => !rests)) return false;
    return isLoose(this.#blocks, IDLE_BLOCKS) || isLoose(this.#slots, IDLE_SLOTS);
  }

  /** Gives memory back where no row is being computed: all but a little, and what rows at rest and prefixes take. */
  async trim(): Promise<void> {
    if (!this.isTooLarge) return;
    await this.#tightenSlots(trimmed(this.#slots, IDLE_SLOTS));
    await this.#tightenBlocks(trimmed(this.#blocks, IDLE_BLOCKS));
  }

  /** Whether its memory has been given back; rows are only closed then. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#rows.clear();
    this.prefixes.clear();
    this.#blocks.dispose();
    this.#slots.dispose();
  }

  /** Makes the slots no more than so many, or than are in use. */
  async #tightenSlots(size: number): Promise<void> {
    await tighten(this.#slots, size, (numberOf) => {
      this.prefixes.renumberStates(numberOf);
      for (const row of this.#rows) if (row.slot >= 0) row.slot = numberOf(row.slot);
    });
  }

  async #tightenBlocks(size: number): Promise<void> {
    await tighten(this.#blocks, size, (numberOf) => {
      this.prefixes.renumber(numberOf);
      for (const { blocks } of this.#rows) blocks.splice(0, blocks.length, ...blocks.map(numberOf));
    });
  }

  /** Whether a row's next tokens go to a block that others hold. */
  #writesShared(reservation: Reservation): boolean {
    const block = reservation.row.blocks[written(reservation)];
    return block !== undefined && this.#blocks.isShared(block);
  }

  #blocksNeeded(wanted: readonly Reservation[]): number {
    return wanted.reduce((sum, row) => sum + missing(row) + (this.#writesShared(row) ? 1 : 0), 0);
  }

  /** Rows without a slot of their own. */
  #needy(wanted: readonly Reservation[]): OpenRow[] {
    if (!this.#keeps.slots) return [];
    const rows = wanted.map(({ row }) => row as OpenRow);
    return rows.filter(({ slot }) => slot < 0 || this.#slots.isShared(slot));
  }

  async #reserveBlocks(wanted: readonly Reservation[]): Promise<void> {
    await this.#makeRoom(this.#blocksNeeded(wanted));
    const copies: { from: number; to: number }[] = [];
    for (const reservation of wanted) {
      const { blocks } = reservation.row as OpenRow;
      // Of those that share a block, the last one may keep it.
      if (this.#writesShared(reservation)) {
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
    if (needed <= this.#blocks.free) return;
    const bound = () => this.#bound(this.#blocks, this.#slots);
    const short = () => needed - this.#blocks.free - Math.max(0, bound() - this.#blocks.size);
    if (short() > 0) this.prefixes.evict(short());
    if (short() > 0) this.prefixes.evictStates(inPieces(short(), this.#blocks, this.#slots));
    if (short() > 0) await this.#tightenSlots(0);
    if (short() > 0) throw this.#full();
    if (needed <= this.#blocks.free) return;
    const { size, free } = this.#blocks;
    const limits = [...this.#rows].reduce((sum, row) => sum + blocksFor(row.limit), 0);
    try {
      const { most: kept } = this.prefixes;
      const first = kept > 0 ? IDLE_BLOCKS : FIRST_BLOCKS;
      const wanted = grown(size, size - free + needed, limits + kept, first);
      await this.#blocks.grow(Math.min(wanted, bound()));
    } catch (error) {
      this.prefixes.evict(needed - this.#blocks.free);
      if (needed > this.#blocks.free) throw error;
    }
  }

  async #reserveSlots(needy: readonly OpenRow[]): Promise<void> {
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

  /** Pieces that a slab may have within the bound, beside another. */
  #bound(slab: Slab, other: Slab): number {
    return Math.floor((this.#maxBytes - other.bytes) / slab.pieceBytes);
  }

  #full(): EngineError {
    return new EngineError(
      `the cache is full: it may take ${formatBytes(this.#maxBytes)}, as maxCacheBytes says. Raise that, or run fewer or shorter rows at a time`,
    );
  }

  /** Sees to it that so many slots are free. */
  async #growSlots(needed: number): Promise<void> {
    const bound = () => this.#bound(this.#slots, this.#blocks);
    const short = () => needed - this.#slots.free - Math.max(0, bound() - this.#slots.size);
    if (short() > 0) this.prefixes.evictStates(short());
    if (short() > 0) this.prefixes.evict(inPieces(short(), this.#slots, this.#blocks));
    if (short() > 0) await this.#tightenBlocks(0);
    if (short() > 0) throw this.#full();
    if (needed <= this.#slots.free) return;
    const { size, free } = this.#slots;
    const { most, keepsStates } = this.prefixes;
    const kept =
      keepsStates && most > 0 ? Math.floor((most * this.#blocks.pieceBytes) / this.#slots.pieceBytes) : 0;
    const limit = this.#rows.size + kept;
    const wanted = grown(size, size - free + needed, limit, kept > 0 ? IDLE_SLOTS : 1);
    try {
      await this.#slots.grow(Math.min(wanted, bound()));
    } catch (error) {
      this.prefixes.evictStates(needed - this.#slots.free);
      if (needed > this.#slots.free) throw error;
    }
  }
}

/** Blocks that a row lacks. */
function missing({ row, positions }: Reservation): number {
  return Math.max(0, blocksFor(positions) - row.blocks.length);
}

/** Index of the block that a row's next token goes to. */
function written({ computed }: Reservation): number {
  return Math.floor(computed / BLOCK_POSITIONS);
}

function stateHolders(slots: Slab, blockBytes: number): StateHolders {
  return {
    blocks: slots.pieceBytes / blockBytes,
    share: (slot) => slots.share(slot),
    give: (slot) => slots.give(slot),
    isShared: (slot) => slots.isShared(slot),
  };
}

/** Blocks that hold so many positions. */
export function blocksFor(positions: number): number {
  return Math.ceil(positions / BLOCK_POSITIONS);
}
