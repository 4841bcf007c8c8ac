import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Candidates } from '../../src/generation/candidates.ts';
import { parseGenerationConfig } from '../../src/generation/generation-config.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import { filterScores } from '../../src/generation/sampler.ts';
import { edit } from './generating.ts';

interface Golden {
  scores: number[];
  flat: number[];
  previous: number[];
  prompt_length: number;
  processors: { params: Record<string, unknown>; expected: (number | null)[] }[];
  filters: { vector: 'scores' | 'flat'; params: Record<string, unknown>; kept: number[] }[];
}
/** From the classes of transformers 5.18 of these names, in float32; null is −∞. */
const path = new URL('../fixtures/goldens/sampling/processors.json', import.meta.url);
const golden: Golden = JSON.parse(readFileSync(path, 'utf8'));

it.each(golden.processors)('scores after $params are those of transformers', ({ params, expected }) => {
  const scores = Float32Array.from(golden.scores);
  const tokens = golden.previous;
  const row = {
    index: 0,
    tokens,
    promptLength: golden.prompt_length,
    seen: new Set(tokens),
    counts: new Map(),
  };
  edit(scores, resolveParameters([parseGenerationConfig(params)]), row);
  for (const [id, value] of expected.entries()) {
    if (value === null) expect(scores[id]).toBe(-Infinity);
    else expect(Math.abs((scores[id] as number) - value)).toBeLessThan(1e-5);
  }
});

describe('what cutoffs keep is what transformers keeps', () => {
  it.each(golden.filters)('$vector, $params', ({ vector, params, kept }) => {
    const scores = Float32Array.from(golden[vector]);
    const candidates = new Candidates(scores.length);
    const config = parseGenerationConfig({ do_sample: true, top_k: 0, ...params });
    filterScores(candidates, scores, resolveParameters([config]));
    expect([...candidates.ids.subarray(0, candidates.count)]).toEqual(kept);
  });
});
