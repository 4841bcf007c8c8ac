import { describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { Candidates, drawCandidate, fillCandidates } from '../../src/generation/candidates.ts';
import { Random, randomSeed } from '../../src/generation/random.ts';
import { chooseLikeliest, filterScores } from '../../src/generation/sampler.ts';
import { probabilitiesOf } from './probabilities.ts';

const OFF = { temperature: 1, topK: 0, topP: 1, minP: 0, typicalP: 1 };

/** Logits with ties, far-off values and −∞, the same every time. */
function someScores(size: number, seed: number, spread: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: size }, () => {
    const u = random.uniform();
    return u < 0.05 ? -Infinity : Math.round(Math.log(u) * spread * 20) / 20;
  });
}

function idsAfter(scores: Float32Array, filters: Partial<typeof OFF>): number[] {
  const candidates = new Candidates(scores.length);
  filterScores(candidates, scores, { ...OFF, ...filters });
  return [...candidates.ids.subarray(0, candidates.count)];
}

/** Ids above −∞, likeliest first, of equal ones the higher id first. */
function ranked(scores: Float32Array): number[] {
  const ids = [...scores.keys()].filter((id) => scores[id] !== -Infinity);
  return ids.sort((a, b) => (scores[b] as number) - (scores[a] as number) || b - a);
}

function softmax(scores: Float32Array): number[] {
  const max = Math.max(...scores);
  const weights = [...scores].map((score) => Math.exp(score - max));
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

const ascending = (ids: number[]) => ids.sort((a, b) => a - b);

describe.each([
  [3000, 0.05],
  [3000, 1],
  [3000, 8],
  [50, 3],
  [1, 1],
])('filters keep what their definitions say: %i tokens, spread %f', (size, spread) => {
  const scores = someScores(size, 11 + size, spread);
  scores[0] = 0;

  it.each([1, 2, 7, 50, 2999, 5000])('top-k %i', (k) => {
    const order = ranked(scores);
    const last = scores[order[Math.min(k, order.length) - 1] as number] as number;
    expect(idsAfter(scores, { topK: k })).toEqual(
      ascending(order.filter((id) => (scores[id] as number) >= last)),
    );
  });

  it.each([0, 0.01, 0.3, 0.8, 0.95, 0.999])('top-p %f', (topP) => {
    const probabilities = softmax(scores);
    const kept: number[] = [];
    let sum = 0;
    for (const id of ranked(scores)) {
      if (kept.length > 0 && sum >= topP) break;
      kept.push(id);
      sum += probabilities[id] as number;
    }
    expect(idsAfter(scores, { topP })).toEqual(ascending(kept));
  });

  it.each([0.001, 0.1, 0.5, 1])('min-p %f', (minP) => {
    const probabilities = softmax(scores);
    const least = minP * Math.max(...probabilities) * (1 - 1e-12);
    const kept = ranked(scores).filter((id) => (probabilities[id] as number) >= least);
    expect(idsAfter(scores, { minP })).toEqual(ascending(kept));
  });

  it.each([0.2, 0.9])('typical %f', (typicalP) => {
    const probabilities = softmax(scores);
    const alive = ranked(scores);
    const entropy = -alive.reduce((sum, id) => {
      const p = probabilities[id] as number;
      return sum + p * Math.log(p);
    }, 0);
    const distance = (id: number) => Math.abs(-Math.log(probabilities[id] as number) - entropy);
    const order = alive.sort((a, b) => distance(a) - distance(b));
    let sum = 0;
    const end = order.findIndex((id) => {
      sum += probabilities[id] as number;
      return sum >= typicalP;
    });
    const farthest = distance(order[end] as number) + 1e-9;
    expect(idsAfter(scores, { typicalP })).toEqual(ascending(order.filter((id) => distance(id) <= farthest)));
  });
});

describe('choosing', () => {
  it('greedily takes the lowest of equal ids', () => {
    expect(chooseLikeliest(Float32Array.of(1, 5, 5, 2))).toBe(1);
    expect(chooseLikeliest(Float32Array.of(Number.NaN, -3))).toBe(1);
  });

  it('reports logits that are no numbers', () => {
    const broken = new Float32Array(4).fill(Number.NaN);
    expect(() => chooseLikeliest(broken)).toThrow(EngineError);
    expect(() => filterScores(new Candidates(4), broken, OFF)).toThrow(/NaN/);
  });

  it('takes an infinite logit for certain', () => {
    const candidates = new Candidates(3);
    filterScores(candidates, Float32Array.of(1, Infinity, 2), { ...OFF, topP: 0.9, minP: 0.1 });
    expect([...probabilitiesOf(candidates)]).toEqual([1]);
    expect(drawCandidate(candidates, 0.99)).toBe(1);
  });

  it('draws at every point of the distribution', () => {
    const candidates = new Candidates(4);
    fillCandidates(candidates, Float32Array.from([0.1, 0, 0.6, 0.3], Math.log), 1, 0);
    const draws = [0, 0.099, 0.101, 0.699, 0.701, 1 - 2 ** -53].map((u) => drawCandidate(candidates, u));
    expect(draws).toEqual([0, 0, 2, 2, 3, 3]);
  });

  it('draws in proportion to the probabilities (chi-square)', () => {
    const size = 64;
    const scores = someScores(size, 5, 0.7);
    const candidates = new Candidates(size);
    filterScores(candidates, scores, { ...OFF, temperature: 1.3, minP: 0.02 });
    const random = new Random(20240607);
    const draws = 200_000;
    const counts = new Map<number, number>();
    for (let i = 0; i < draws; i++) {
      const id = drawCandidate(candidates, random.uniform());
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const statistic = probabilitiesOf(candidates).reduce((sum, p, i) => {
      const expected = p * draws;
      return sum + ((counts.get(candidates.ids[i] as number) ?? 0) - expected) ** 2 / expected;
    }, 0);
    const freedom = candidates.count - 1;
    expect(freedom).toBeGreaterThan(20);
    // Mean `freedom`, standard deviation √(2·freedom); four of them are passed once in 10,000 seeds.
    expect(statistic).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom));
    expect([...counts.keys()].every((id) => candidates.ids.subarray(0, candidates.count).includes(id))).toBe(
      true,
    );
  });
});

describe('Random', () => {
  it('gives the same numbers for the same seed and stream only', () => {
    const first = (seed: number, stream?: number) =>
      Array.from({ length: 4 }, () => new Random(seed, stream).uint32());
    const keys = [first(0), first(1), first(2 ** 32), first(2 ** 53 - 1), first(0, 1), first(1, 1)].map(
      String,
    );
    expect(new Set(keys).size).toBe(6);
    expect(first(1, 1)).toEqual(first(1, 1));
  });

  it('is uniform in every bit, within and across streams', () => {
    const n = 20_000;
    for (const draw of [
      (() => {
        const random = new Random(1);
        return () => random.uint32();
      })(),
      (() => {
        let stream = 0;
        return () => new Random(1, stream++).uint32();
      })(),
    ]) {
      const ones = new Array<number>(32).fill(0);
      for (let i = 0; i < n; i++) {
        const word = draw();
        for (let bit = 0; bit < 32; bit++) ones[bit] = (ones[bit] as number) + ((word >>> bit) & 1);
      }
      for (const count of ones) expect(Math.abs(count - n / 2)).toBeLessThan(5 * Math.sqrt(n / 4));
    }
  });

  it('stays in [0, 1) and makes safe seeds', () => {
    const random = new Random(9);
    for (let i = 0; i < 1000; i++) {
      const u = random.uniform();
      expect(u >= 0 && u < 1).toBe(true);
    }
    expect(Number.isSafeInteger(randomSeed())).toBe(true);
  });
});
