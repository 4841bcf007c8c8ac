import { setImmediate } from 'node:timers/promises';
import { EngineError } from '../../errors.ts';
import { stateName } from '../../models/io.ts';
import type { CacheSpec } from '../../nn/cache-spec.ts';
import type { Tensor } from '../../runtime/ort.ts';
import type { CacheBuffer, CacheMemory } from './memory.ts';

/** Positions of one block: a whole number of the key tiles that attention kernels read. */
export const BLOCK_POSITIONS = 64;

/** Blocks a pool starts with. */
const FIRST_BLOCKS = 4;
/** Blocks a pool keeps while no row is open, so that the next call finds its memory, and recorded steps their addresses. */
const IDLE_BLOCKS = 64;

/** Past and present of every layer, which are the same memory, by `stateName`. */
export type CacheTensors = ReadonlyMap<string, Tensor>;

/** What one sequence has of the pool: the blocks its positions lie in, in their order. */
export interface CacheRow {
  readonly blocks: readonly number[];
}

type KeysValuesSpec = CacheSpec & { kind: 'keys_values' };

interface OpenRow extends CacheRow {
  readonly blocks: number[];
  /** Most positions it will ever hold. */
  readonly limit: number;
}

/**
 * The memory of what layers keep between passes, for all sequences of a model: keys and values in blocks of
 * {@link BLOCK_POSITIONS} positions, [blocks, kv heads, positions, head dim] for each layer. A row takes blocks as it grows and gives
 * them back when it is closed. The pool doubles when it runs out, up to what its open rows can need at most, so that a token costs
 * no copy on average; block numbers stay what they were.
 *
 * Whoever reserves or closes must see to it that no pass is running.
 */
export class CachePool {
  readonly #specs: readonly KeysValuesSpec[];
  readonly #memory: CacheMemory;
  readonly #onMove: () => void;
  readonly #buffers = new Map<string, CacheBuffer>();
  readonly #rows = new Set<OpenRow>();
  #tensors: CacheTensors = new Map();
  #free: number[] = [];
  #blocks = 0;
  #disposed = false;

  /** @param onMove called before the memory moves or is freed: recordings hold addresses */
  constructor(specs: readonly CacheSpec[], memory: CacheMemory, onMove: () => void = () => {}) {
    this.#specs = specs.map(keysValues);
    this.#memory = memory;
    this.#onMove = onMove;
  }

  /** Blocks there are, in use or not. */
  get blocks(): number {
    return this.#blocks;
  }

  /** Bytes of all blocks. */
  get bytes(): number {
    return [...this.#buffers.values()].reduce((sum, buffer) => sum + buffer.bytes, 0);
  }

  get tensors(): CacheTensors {
    return this.#tensors;
  }

  /** @param limit most positions the row will ever hold */
  open(limit: number): CacheRow {
    const row: OpenRow = { blocks: [], limit };
    this.#rows.add(row);
    return row;
  }

  /**
   * Gives rows the blocks for as many positions as they are to hold.
   * @throws EngineError where there is no memory; the rows keep what they had
   */
  async reserve(wanted: readonly { readonly row: CacheRow; readonly positions: number }[]): Promise<void> {
    const missing = wanted.map(({ row, positions }) => Math.max(0, blocksFor(positions) - row.blocks.length));
    const needed = missing.reduce((a, b) => a + b, 0);
    if (needed > this.#free.length) await this.#grow(this.#blocks - this.#free.length + needed);
    for (const [i, { row }] of wanted.entries())
      for (let n = missing[i] as number; n > 0; n--) (row as OpenRow).blocks.push(this.#free.pop() as number);
  }

  /** Gives a row's blocks back. Idempotent. */
  close(row: CacheRow): void {
    const open = row as OpenRow;
    if (!this.#rows.delete(open)) return;
    this.#free.push(...open.blocks.reverse());
    open.blocks.length = 0;
    if (this.#rows.size === 0 && this.#blocks > IDLE_BLOCKS) this.#clear();
  }

  dispose(): void {
    this.#disposed = true;
    this.#rows.clear();
    this.#clear();
  }

  async #grow(needed: number): Promise<void> {
    const most = [...this.#rows].reduce((sum, row) => sum + blocksFor(row.limit), 0);
    // Some more than is needed now: the next token should not move all that a long prompt has just filled.
    const wanted = Math.max(2 * this.#blocks, needed + Math.ceil(needed / 16), FIRST_BLOCKS);
    const blocks = Math.max(needed, Math.min(wanted, most));
    this.#onMove();
    try {
      await this.#growBuffers(blocks);
      for (let block = this.#blocks; block < blocks; block++) this.#free.push(block);
      // Low numbers are handed out first.
      this.#free.sort((a, b) => b - a);
      this.#blocks = blocks;
    } finally {
      // Where memory ran out midway, some layers have moved, and all go on with the blocks there were.
      if (this.#disposed || this.#blocks === 0) this.#clear();
      const buffers = [...this.#buffers];
      this.#tensors = new Map(buffers.map(([name, buffer]) => [name, buffer.tensor(this.#blocks)]));
    }
  }

  async #growBuffers(blocks: number): Promise<void> {
    for (const [layer, { kvHeads, headDim }] of this.#specs.entries()) {
      for (const part of ['key', 'value'] as const) {
        const name = stateName(layer, part);
        const old = this.#buffers.get(name);
        // Already of this size where an earlier growth ended midway.
        if (old && (old.dims[0] ?? 0) >= blocks) continue;
        const dims = [blocks, kvHeads, BLOCK_POSITIONS, headDim];
        this.#buffers.set(name, await this.#memory.grow(old, dims));
      }
      // Copying a long cache takes a while; the event loop gets its turn between layers.
      if (this.#blocks > 0) await setImmediate();
    }
  }

  #clear(): void {
    this.#onMove();
    for (const buffer of this.#buffers.values()) buffer.dispose();
    this.#buffers.clear();
    this.#tensors = new Map();
    this.#free = [];
    this.#blocks = 0;
  }
}

function keysValues(spec: CacheSpec): KeysValuesSpec {
  if (spec.kind === 'keys_values') return spec;
  throw new EngineError('the model has layers with a recurrent state, which this engine does not keep yet');
}

/** Blocks that hold so many positions. */
export function blocksFor(positions: number): number {
  return Math.ceil(positions / BLOCK_POSITIONS);
}
