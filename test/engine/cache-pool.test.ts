import { describe, expect, it } from 'vitest';
import { HostCacheMemory } from '../../src/engine/cache/memory.ts';
import { BLOCK_POSITIONS, CachePool, type CacheRow } from '../../src/engine/cache/pool.ts';
import { stateName } from '../../src/models/io.ts';

const SPECS = [
  { kind: 'keys_values', kvHeads: 2, headDim: 8 },
  { kind: 'keys_values', kvHeads: 1, headDim: 4 },
] as const;
const BLOCK = BLOCK_POSITIONS;

const options = { dtype: 'float32', memory: new HostCacheMemory() } as const;
const open = (onMove = () => {}) => new CachePool(SPECS, { ...options, onMove });
const reserve = (pool: CachePool, row: CacheRow, positions: number, computed = 0) =>
  pool.reserve([{ row, computed, positions }]);

const dataOf = ({ tensors }: CachePool, name: string) => tensors.get(name)?.data as Float32Array;

describe('a cache pool', () => {
  it('gives rows as many blocks as their positions need, no block to two of them', async () => {
    const pool = open();
    const [a, b] = [pool.open(10 * BLOCK), pool.open(10 * BLOCK)];
    await reserve(pool, a, 1);
    await pool.reserve([
      { row: a, computed: 0, positions: BLOCK + 1 },
      { row: b, computed: 0, positions: 3 * BLOCK },
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
    await pool.trim();
    expect(pool.blocks).toBeGreaterThan(0);
    const large = pool.open(1000 * BLOCK);
    await reserve(pool, large, 1000 * BLOCK);
    pool.close(large);
    await pool.trim();
    expect(pool.blocks).toBe(0);
    const next = pool.open(BLOCK);
    await reserve(pool, next, BLOCK);
    expect(next.blocks.length).toBe(1);
  });

  it('goes on with what it has where memory runs out in the midst of growing', async () => {
    let left = 100;
    class ShortMemory extends HostCacheMemory {
      override resize(...args: Parameters<HostCacheMemory['resize']>) {
        if (left-- <= 0) return Promise.reject(new Error('no room'));
        return super.resize(...args);
      }
    }
    const pool = new CachePool(SPECS, { ...options, memory: new ShortMemory() });
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
    const pool = new CachePool(specs, { ...options, dtype: 'bfloat16' });
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
    await pool.reserve(more.map((row) => ({ row, computed: 0, positions: 1 })));
    expect(more.map(({ slot }) => slot)).toContain(freed);
    expect(pool.slots).toBe(5);
    const kept = data().subarray(second.slot * 32, (second.slot + 1) * 32);
    expect(kept.every((value) => value === 5)).toBe(true);
  });

  it('shares the blocks of a row with its forks until one of them writes', async () => {
    const pool = open();
    const row = pool.open(5 * BLOCK);
    await reserve(pool, row, BLOCK + 3);
    const size = 2 * BLOCK * 8;
    const block = (number: number) =>
      dataOf(pool, stateName(0, 'key')).subarray(number * size, (number + 1) * size);
    const [, last] = row.blocks as [number, number];
    block(last).fill(7);
    const forks = [1, 2].map(() => pool.fork(row, BLOCK + 3));
    for (const fork of forks) expect(fork.blocks).toEqual(row.blocks);
    // Row and one fork write: each to a copy. The other fork is the last to hold the block, and keeps it.
    for (const writer of [row, forks[0] as CacheRow]) {
      await reserve(pool, writer, BLOCK + 4, BLOCK + 3);
      expect(writer.blocks[0]).toBe(row.blocks[0]);
      expect(writer.blocks[1]).not.toBe(last);
      expect(block(writer.blocks[1] as number).every((value) => value === 7)).toBe(true);
    }
    await reserve(pool, forks[1] as CacheRow, BLOCK + 4, BLOCK + 3);
    expect(forks[1]?.blocks[1]).toBe(last);
    // At a block's border nothing is copied: the next block is each one's own.
    const whole = pool.fork(forks[1] as CacheRow, BLOCK);
    await reserve(pool, whole, BLOCK + 1, BLOCK);
    expect(whole.blocks[0]).toBe(row.blocks[0]);
    for (const closed of [row, whole, ...forks]) pool.close(closed);
    const all = pool.open(pool.blocks * BLOCK);
    await reserve(pool, all, pool.blocks * BLOCK);
    expect(new Set(all.blocks).size).toBe(pool.blocks);
  });

  it('gives a fork of a row with recurrent states a copy of them before either goes on', async () => {
    const specs = [{ kind: 'recurrent', states: { delta: [4] } }] as const;
    const pool = new CachePool(specs, options);
    const row = pool.open(9);
    await reserve(pool, row, 5);
    const states = ({ slot }: CacheRow) =>
      dataOf(pool, stateName(0, 'delta')).subarray(slot * 4, slot * 4 + 4);
    states(row).fill(3);
    const fork = pool.fork(row, 5);
    await pool.reserve([row, fork].map((each) => ({ row: each, computed: 5, positions: 6 })));
    expect(row.slot).not.toBe(fork.slot);
    expect([...states(row), ...states(fork)]).toEqual(new Array(8).fill(3));
  });

  it('moves the blocks that its prefixes keep together when it gives memory back', async () => {
    const pool = new CachePool(SPECS, { ...options, prefixBytes: 2 ** 24 });
    const rows = Array.from({ length: 200 }, () => pool.open(BLOCK));
    for (const row of rows) await reserve(pool, row, BLOCK);
    const kept = rows.filter((_, i) => i % 67 === 66);
    const data = () => pool.tensors.get(stateName(1, 'value'))?.data as Float32Array;
    for (const [i, { blocks }] of kept.entries()) {
      const [block] = blocks as [number];
      data().fill(i + 1, block * BLOCK * 4, (block + 1) * BLOCK * 4);
      pool.prefixes.add(pool.prefixes.root('a'), [i], block);
    }
    expect(pool.isTooLarge).toBe(false);
    for (const row of rows) pool.close(row);
    expect(pool.isTooLarge).toBe(true);
    await pool.trim();
    expect(pool.blocks).toBeLessThan(10);
    for (const i of kept.keys()) {
      const { blocks } = pool.prefixes.match(pool.prefixes.root('a'), () => i, 1);
      const [block] = blocks as [number];
      expect(data()[block * BLOCK * 4 + 5]).toBe(i + 1);
    }
  });

  it('takes from its prefixes what rows need where there is no more memory', async () => {
    let isFull = false;
    class ShortMemory extends HostCacheMemory {
      override resize(...args: Parameters<HostCacheMemory['resize']>) {
        return isFull ? Promise.reject(new Error('no room')) : super.resize(...args);
      }
    }
    const pool = new CachePool(SPECS, { ...options, memory: new ShortMemory(), prefixBytes: 2 ** 24 });
    const row = pool.open(64 * BLOCK);
    await reserve(pool, row, 64 * BLOCK);
    let node = pool.prefixes.root('a');
    for (const block of row.blocks)
      node = pool.prefixes.add(node, new Array(BLOCK).fill(1), block) as typeof node;
    pool.close(row);
    isFull = true;
    const next = pool.open(70 * BLOCK);
    await reserve(pool, next, 60 * BLOCK);
    expect([next.blocks.length, pool.prefixes.size]).toEqual([60, 8]);
    await expect(reserve(pool, next, 70 * BLOCK)).rejects.toThrow('no room');
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
