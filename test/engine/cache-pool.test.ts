import { describe, expect, it } from 'vitest';
import { HostCacheMemory } from '../../src/engine/cache/memory.ts';
import { BLOCK_POSITIONS, CachePool, type CacheRow } from '../../src/engine/cache/pool.ts';
import { stateName } from '../../src/models/io.ts';

const SPECS = [
  { kind: 'keys_values', kvHeads: 2, headDim: 8 },
  { kind: 'keys_values', kvHeads: 1, headDim: 4 },
] as const;
const BLOCK = BLOCK_POSITIONS;

const open = (onMove?: () => void) => new CachePool(SPECS, 'float32', new HostCacheMemory(), onMove);
const reserve = (pool: CachePool, row: CacheRow, positions: number) => pool.reserve([{ row, positions }]);

describe('a cache pool', () => {
  it('gives rows as many blocks as their positions need, no block to two of them', async () => {
    const pool = open();
    const [a, b] = [pool.open(10 * BLOCK), pool.open(10 * BLOCK)];
    await reserve(pool, a, 1);
    await pool.reserve([
      { row: a, positions: BLOCK + 1 },
      { row: b, positions: 3 * BLOCK },
    ]);
    expect([a.blocks.length, b.blocks.length]).toEqual([2, 3]);
    expect(new Set([...a.blocks, ...b.blocks]).size).toBe(5);
    await reserve(pool, a, BLOCK);
    expect(a.blocks.length).toBe(2);
  });

  it('keeps numbers and contents of blocks when it grows', async () => {
    const pool = open();
    const row = pool.open(100 * BLOCK);
    await reserve(pool, row, BLOCK);
    const before = [...row.blocks];
    const data = () => pool.tensors.get(stateName(0, 'key'))?.data as Float32Array;
    data().fill(7);
    await reserve(pool, row, 40 * BLOCK);
    expect(row.blocks.slice(0, 1)).toEqual(before);
    const size = 2 * BLOCK * 8;
    const block = before[0] as number;
    expect(
      data()
        .subarray(block * size, (block + 1) * size)
        .every((value) => value === 7),
    ).toBe(true);
    expect(pool.tensors.get(stateName(1, 'value'))?.dims).toEqual([pool.blocks, 1, BLOCK, 4]);
  });

  it('grows no further than its open rows can need', async () => {
    const pool = open();
    const row = pool.open(5 * BLOCK);
    await reserve(pool, row, BLOCK);
    await reserve(pool, row, 5 * BLOCK);
    expect(pool.blocks).toBe(5);
  });

  it('does not move for the tokens that follow a long prompt', async () => {
    let moves = 0;
    const pool = open(() => {
      moves++;
    });
    const row = pool.open(130 * BLOCK);
    await reserve(pool, row, 125 * BLOCK);
    await reserve(pool, row, 130 * BLOCK);
    expect(moves).toBe(1);
  });

  it('uses the blocks of closed rows again, and says when its memory moves', async () => {
    let moves = 0;
    const pool = open(() => {
      moves++;
    });
    const [a, b] = [pool.open(8 * BLOCK), pool.open(8 * BLOCK)];
    await reserve(pool, a, 4 * BLOCK);
    expect(moves).toBe(1);
    pool.close(a);
    pool.close(a);
    await reserve(pool, b, 4 * BLOCK);
    expect([moves, pool.blocks]).toEqual([1, 5]);
  });

  it('keeps a little memory for the next call and gives back more than that', async () => {
    const pool = open();
    const small = pool.open(BLOCK);
    await reserve(pool, small, BLOCK);
    pool.close(small);
    expect(pool.blocks).toBeGreaterThan(0);
    const large = pool.open(1000 * BLOCK);
    await reserve(pool, large, 1000 * BLOCK);
    pool.close(large);
    expect(pool.blocks).toBe(0);
    const next = pool.open(BLOCK);
    await reserve(pool, next, BLOCK);
    expect(next.blocks.length).toBe(1);
  });

  it('goes on with what it has where memory runs out in the midst of growing', async () => {
    let left = 100;
    class ShortMemory extends HostCacheMemory {
      override grow(...args: Parameters<HostCacheMemory['grow']>) {
        if (left-- <= 0) return Promise.reject(new Error('no room'));
        return super.grow(...args);
      }
    }
    const pool = new CachePool(SPECS, 'float32', new ShortMemory());
    const row = pool.open(40 * BLOCK);
    await reserve(pool, row, BLOCK);
    const { blocks } = pool;
    const before = [...row.blocks];
    const values = () => pool.tensors.get(stateName(1, 'value'))?.data as Float32Array;
    values().fill(3);
    left = 1;
    await expect(reserve(pool, row, 40 * BLOCK)).rejects.toThrow('no room');
    expect([pool.blocks, row.blocks]).toEqual([blocks, before]);
    for (const tensor of pool.tensors.values()) expect(tensor.dims[0]).toBe(blocks);
    left = 100;
    await reserve(pool, row, 20 * BLOCK);
    expect(row.blocks.length).toBe(20);
    for (const tensor of pool.tensors.values()) expect(tensor.dims[0]).toBe(pool.blocks);
    expect(values()[0]).toBe(3);
  });

  it('gives rows of a hybrid model a slot each for their recurrent states, in fp32', async () => {
    const specs = [SPECS[0], { kind: 'recurrent', states: { conv: [3, 2], delta: [2, 4, 4] } }] as const;
    const pool = new CachePool(specs, 'bfloat16', new HostCacheMemory());
    const rows = [1, 2, 3].map(() => pool.open(3 * BLOCK));
    for (const row of rows) await reserve(pool, row, 5);
    expect(new Set(rows.map(({ slot }) => slot)).size).toBe(3);
    const delta = pool.tensors.get(stateName(1, 'delta'));
    expect([delta?.type, delta?.dims]).toEqual(['float32', [pool.slots, 2, 4, 4]]);
    expect(pool.tensors.get(stateName(1, 'conv'))?.dims).toEqual([pool.slots, 3, 2]);
    const data = () => pool.tensors.get(stateName(1, 'delta'))?.data as Float32Array;
    const [first, second] = rows as [CacheRow, CacheRow];
    data().fill(5, second.slot * 32, (second.slot + 1) * 32);
    const freed = first.slot;
    pool.close(first);
    expect(first.slot).toBe(-1);
    const more = [1, 2, 3].map(() => pool.open(BLOCK));
    await pool.reserve(more.map((row) => ({ row, positions: 1 })));
    expect(more.map(({ slot }) => slot)).toContain(freed);
    expect(pool.slots).toBe(5);
    const kept = data().subarray(second.slot * 32, (second.slot + 1) * 32);
    expect(kept.every((value) => value === 5)).toBe(true);
  });

  it('holds what it should through random openings, growths and closings', async () => {
    const pool = open();
    const rows: { row: CacheRow; positions: number }[] = [];
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let i = 0; i < 500; i++) {
      if (rows.length === 0 || random(3) === 0) rows.push({ row: pool.open(20 * BLOCK), positions: 0 });
      const chosen = rows[random(rows.length)] as (typeof rows)[number];
      chosen.positions = Math.min(20 * BLOCK, chosen.positions + random(3 * BLOCK));
      await reserve(pool, chosen.row, chosen.positions);
      if (random(4) === 0) {
        const [closed] = rows.splice(random(rows.length), 1);
        if (closed) pool.close(closed.row);
      }
      const used = rows.flatMap(({ row }) => row.blocks);
      expect(new Set(used).size).toBe(used.length);
      expect(used.every((block) => block >= 0 && block < pool.blocks)).toBe(true);
      for (const { row, positions } of rows)
        expect(row.blocks.length).toBeGreaterThanOrEqual(Math.ceil(positions / BLOCK));
    }
  });
});
