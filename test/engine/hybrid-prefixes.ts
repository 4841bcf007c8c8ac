import { afterEach, expect, it } from 'vitest';
import { DecoderDecoding } from '../../src/engine/decoding.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { openSummingEngine } from '../helpers/summing-engine.ts';
import { nextBySum } from '../helpers/summing-model.ts';

const EXPERTS = { requested: () => 'grouped_mm', choose: () => 'grouped_mm' };
const KINDS = ['recurrent', 'keys_values', 'recurrent'] as const;
export const VOCAB = 97;
export const prompt = (length: number, seed: number, vocab = VOCAB) =>
  Array.from({ length }, (_, i) => (seed * 31 + i * 7) % vocab);

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (let close = closing.pop(); close; close = closing.pop()) await close();
});

export async function openSums(where: 'cpu' | 'cuda', prefixBytes: number): Promise<Engine> {
  const { engine, close } = await openSummingEngine(VOCAB, KINDS, where, prefixBytes);
  closing.push(close);
  return engine;
}

/** Greedy tokens after a prompt, which must be what the sums say, and how many of the prompt did not run. */
export async function expectSums(engine: Engine, ids: readonly number[], count: number) {
  const decoding = new DecoderDecoding(engine, [{ ids }], count, EXPERTS);
  const tokens: number[] = [];
  try {
    let scores = await decoding.prefill(1);
    for (;;) {
      tokens.push(scores.top.ids[0] as number);
      expect(tokens.at(-1)).toBe(nextBySum([...ids, ...tokens.slice(0, -1)], VOCAB, KINDS.length));
      if (tokens.length === count) return { tokens, cached: decoding.cachedTokens };
      scores = await decoding.step([0], [[tokens.at(-1) as number]], 1);
    }
  } finally {
    decoding.dispose();
  }
}

/**
 * That sequences go on from kept states and nobody can tell, by models whose next token tells whether they were right.
 * @param rounds of random conversations
 */
export function describeSums(where: 'cpu' | 'cuda', rounds: number): void {
  it('the next turn of a chat begins where the last one ended', async () => {
    const engine = await openSums(where, 1e6);
    const first = await expectSums(engine, prompt(100, 1), 30);
    expect(first.cached).toBe(0);
    // The last token of an answer is never computed.
    const turn = [...prompt(100, 1), ...first.tokens, ...prompt(40, 2)];
    expect((await expectSums(engine, turn, 5)).cached).toBe(129);
    // So few new tokens that attention would add up otherwise: from a block's end before.
    const long = await expectSums(engine, prompt(70, 3), 130);
    const short = [...prompt(70, 3), ...long.tokens, 1, 2, 3];
    expect((await expectSums(engine, short, 5)).cached).toBe(128);
  });

  it('a prompt whose answer is told otherwise begins where the prompt ended, and a shared beginning serves the third', async () => {
    const engine = await openSums(where, 1e6);
    const base = prompt(400, 4);
    const [a, b, c, d] = [5, 6, 7, 8].map((seed) => [...base, ...prompt(150, seed)]) as number[][];
    expect((await expectSums(engine, a as number[], 4)).cached).toBe(0);
    expect((await expectSums(engine, [...(a as number[]), ...prompt(50, 9)], 4)).cached).toBe(512);
    expect((await expectSums(engine, b as number[], 4)).cached).toBe(0);
    expect((await expectSums(engine, c as number[], 4)).cached).toBe(384);
    expect((await expectSums(engine, d as number[], 4)).cached).toBe(384);
  });

  it('random conversations say what the sums say, and what is kept stays within its bound', async () => {
    // Room for about 40 blocks, of which a slot is a small part.
    const engine = await openSums(where, 40 * 64 * 16 * 2 * 4);
    let seed = 5;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    const known: number[][] = [[]];
    let cached = 0;
    const turn = async (from: readonly number[], size: number, count: number) => {
      const ids = [...from, ...prompt(size, random(50))];
      const result = await expectSums(engine, ids, count);
      cached += result.cached;
      known.push([...ids, ...result.tokens]);
    };
    for (let i = 0; i < rounds; i++) {
      const turns = Array.from({ length: 1 + random(3) }, () => {
        const from = known[random(known.length)] as number[];
        return turn(
          from.slice(0, random(3) ? from.length : random(from.length + 1)),
          1 + random(200),
          1 + random(90),
        );
      });
      await Promise.all(turns);
      if (known.length > 12) known.splice(0, 6, []);
    }
    if (rounds > 10) expect(cached).toBeGreaterThan(500);
    await engine.reserve([]);
    expect(engine.cacheBlocks).toBeLessThanOrEqual(2 * 40 + 64);
  });
}
