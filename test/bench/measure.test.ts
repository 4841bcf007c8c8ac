import { expect, test } from 'vitest';
import { measure, type Plan } from '../../src/bench/measure.ts';
import { AbortError } from '../../src/errors.ts';
import type { Generator } from '../../src/generation/types.ts';

const scores = async () => ({ top: { ids: [1], count: 1 } });
const generator = {
  ...{ vocabSize: 8, contextLength: 64 },
  openDecoding: async () => ({ prefill: scores, step: scores, dispose() {} }),
} as unknown as Generator;

/** Signals are looked at before a pass and in a rest. */
test.each([
  ['warming up', 'a pass'],
  ['run 1 of 1: one, prefill of 2 tokens', 'a rest'],
])('where %j is aborted, an AbortError ends %s, whose cause is the reason', async (step) => {
  const ending = new AbortController();
  const plan: Plan = {
    ...{ candidates: [{ name: 'one', experts: 'one' }], prompts: [2], requests: [], newTokens: 0 },
    ...{ routed: false, runs: 1, cold: true, signal: ending.signal },
    onStep: (description) => description === step && ending.abort('enough'),
  };
  const error = await measure(generator, plan).catch((fault: unknown) => fault);
  expect(error).toBeInstanceOf(AbortError);
  expect(error).toMatchObject({ message: 'the measurement was aborted', cause: 'enough' });
});
