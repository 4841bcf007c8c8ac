import { afterEach, expect, it } from 'vitest';
import { DecoderDecoding } from '../../src/engine/decoding.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { openSummingEngine } from '../helpers/summing-engine.ts';
import { nextBySum } from '../helpers/summing-model.ts';

export const VOCAB = 97;
const EXPERTS = { requested: () => 'grouped_mm', choose: () => 'grouped_mm' };

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (let close = closing.pop(); close; close = closing.pop()) await close();
});

async function open(kinds: (typeof LAYERS)[number], where: 'cpu' | 'cuda'): Promise<Engine> {
  const { engine, close } = await openSummingEngine(VOCAB, kinds, where);
  closing.push(close);
  return engine;
}

/** Greedy tokens after a prompt, beside whatever else the engine does. */
async function generate(engine: Engine, ids: readonly number[], count: number): Promise<number[]> {
  const decoding = new DecoderDecoding(engine, [{ ids }], count, EXPERTS);
  try {
    const tokens: number[] = [];
    let scores = await decoding.prefill(1);
    for (;;) {
      tokens.push(scores.top.ids[0] as number);
      if (tokens.length === count) return tokens;
      scores = await decoding.step([0], [[tokens.at(-1) as number]], 1);
    }
  } finally {
    decoding.dispose();
  }
}

function sums(ids: readonly number[], count: number, layers: number): number[] {
  const all = [...ids];
  for (let i = 0; i < count; i++) all.push(nextBySum(all, VOCAB, layers));
  return all.slice(ids.length);
}

const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (seed + 5 * i) % VOCAB);

/** What the layers of models remember. */
export const LAYERS = [['recurrent'], ['recurrent', 'keys_values', 'recurrent'], ['keys_values']] as const;

/** That every sequence has states of its own, by models whose next token tells whether they were right. */
export function describeStates(where: 'cpu' | 'cuda', kinds: (typeof LAYERS)[number]): void {
  it('belong to one sequence each, however many share passes', async () => {
    const engine = await open(kinds, where);
    const requests = [
      [prompt(3, 1), 9],
      [prompt(70, 2), 6],
      [prompt(600, 3), 4],
      [prompt(1, 4), 12],
      [prompt(65, 5), 3],
    ] as const;
    const results = await Promise.all(requests.map(([ids, count]) => generate(engine, ids, count)));
    expect(results).toEqual(requests.map(([ids, count]) => sums(ids, count, kinds.length)));
  });

  it('begin with zeros, whatever the last sequence left in the slot', async () => {
    const engine = await open(kinds, where);
    for (const seed of [7, 8, 9]) {
      const ids = prompt(4 * seed, seed);
      expect(await generate(engine, ids, 3)).toEqual(sums(ids, 3, kinds.length));
    }
  });

  it('stay right while recorded steps are replayed and the memory moves', async () => {
    const engine = await open(kinds, where);
    engine.recording.enabled = true;
    const long = generate(engine, prompt(5, 1), 40);
    const others = (async () => {
      await generate(engine, prompt(9, 2), 8);
      return Promise.all([3, 4, 5].map((seed) => generate(engine, prompt(60 * seed, seed), 20)));
    })();
    expect(await long).toEqual(sums(prompt(5, 1), 40, kinds.length));
    const expected = [3, 4, 5].map((seed) => sums(prompt(60 * seed, seed), 20, kinds.length));
    expect(await others).toEqual(expected);
  });
}
