import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, InputError } from '../../src/errors.ts';
import { Candidates } from '../../src/generation/candidates.ts';
import { parseGenerationConfig } from '../../src/generation/generation-config.ts';
import { checkParameters } from '../../src/generation/parameters.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import { chooseLikeliest, filterScores } from '../../src/generation/sampler.ts';
import { edit } from './generating.ts';
import { probabilitiesOf } from './probabilities.ts';

interface Expected {
  vectors: Record<string, number[]>;
  cases: {
    name: string;
    vector: string;
    previous: number[];
    params: Record<string, number>;
    do_sample: boolean;
    order: string[];
    kept: number[];
    kept_logits: number[];
    kept_probs: number[];
    argmax: number;
  }[];
  errors: { params: Record<string, number>; error?: string; accepted?: true }[];
  defaults: Record<string, number | boolean | string>;
}

const path = new URL('../fixtures/goldens/sampling/expected.json', import.meta.url);
const expected: Expected = JSON.parse(readFileSync(path, 'utf8'));

describe('filtering logits agrees with transformers', () => {
  it.each(expected.cases)('$name', ({ vector, previous, params, do_sample, ...golden }) => {
    const call = parseGenerationConfig({ top_k: 0, ...params, do_sample });
    const parameters = resolveParameters([call]);
    const scores = Float32Array.from(expected.vectors[vector] as number[]);
    const row = {
      index: 0,
      tokens: previous,
      promptLength: previous.length,
      seen: new Set(previous),
      counts: new Map(),
    };
    edit(scores, parameters, row);
    expect(chooseLikeliest(scores)).toBe(golden.argmax);

    const candidates = new Candidates(scores.length);
    const off = { temperature: 1, topK: 0, topP: 1, minP: 0, typicalP: 1 };
    filterScores(candidates, scores, do_sample ? parameters : off);
    expect([...candidates.ids.subarray(0, candidates.count)]).toEqual(golden.kept);
    probabilitiesOf(candidates).forEach((probability, i) => {
      expect(Math.abs(probability - (golden.kept_probs[i] as number))).toBeLessThan(1e-6);
      expect(Math.abs((candidates.logits[i] as number) - (golden.kept_logits[i] as number))).toBeLessThan(
        1e-5,
      );
    });
  });
});

describe('parameters out of range are refused, in a file and in a call', () => {
  it.each(expected.errors)('$params', ({ params }) => {
    const [[key, value]] = Object.entries(params) as [[string, number]];
    const name = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    // Unlike transformers, also what is "accepted" there: a top_p above 1, which has no effect.
    // A caller's temperature of 0 is greedy decoding.
    if (key !== 'temperature' || value !== 0) {
      expect(() => checkParameters({ [name]: value }, 'generate')).toThrow(InputError);
      expect(() => checkParameters({ [name]: value }, 'generate')).toThrow(`generate: ${name} is ${value};`);
    }
    const sampled = () => resolveParameters([parseGenerationConfig({ ...params, do_sample: true })]);
    expect(sampled).toThrow(ConfigError);
    expect(sampled).toThrow(new RegExp(`generation_config.json: ${key} is ${value}[;,]`));
  });
});

it('the defaults are those of transformers, but for the length', () => {
  const { doSample, temperature, topK, topP, repetitionPenalty } = resolveParameters([]);
  const { defaults } = expected;
  expect({ doSample, temperature, topK, topP, repetitionPenalty }).toEqual({
    doSample: defaults.do_sample,
    temperature: defaults.temperature,
    topK: defaults.top_k,
    topP: defaults.top_p,
    repetitionPenalty: defaults.repetition_penalty,
  });
});
