/** Whole generations of transformers over the tiny checkpoints; `fixtures/goldens/generation/make.py` has made them. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Candidates } from '../../src/generation/candidates.ts';
import { parseGenerationConfig } from '../../src/generation/generation-config.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import { filterScores } from '../../src/generation/sampler.ts';
import { AutoModelForCausalLM, type CausalLM } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

interface Case {
  model: string;
  prompts: number[][];
  params: Record<string, unknown>;
  tokens: number[][];
  scores?: number[] | null;
}
interface Golden {
  cases: Case[];
  top_h: { scores: number[]; cases: { top_h: number; top_k: number; kept: number[] }[] };
}
const path = new URL('../fixtures/goldens/generation/expected.json', import.meta.url);
const golden: Golden = JSON.parse(readFileSync(path, 'utf8'));
const models = [...new Set(golden.cases.map(({ model }) => model))];

/** Guessing is for calls to ask for. */
const lookup = ({ prompt_lookup_num_tokens: tokens, max_matching_ngram_size: size }: Case['params']) => ({
  ...(tokens !== undefined && { promptLookupNumTokens: tokens as number }),
  ...(size !== undefined && { maxMatchingNgramSize: size as number }),
});

describe.each(models)('%s', (name) => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32' });
  });
  afterAll(() => model.dispose());

  const cases = golden.cases.filter((one) => one.model === name);
  it.each(cases)('$params, prompts of $prompts.length rows', async ({ prompts, params, tokens, scores }) => {
    const width = Math.max(...prompts.map((row) => row.length));
    const padded = (row: number[], value: number, fill: number[]) => [
      ...Array(width - row.length).fill(value),
      ...fill,
    ];
    const generationConfig = parseGenerationConfig(params);
    const output = await model.generate({
      inputIds: prompts.map((row) => padded(row, 0, row)),
      attentionMask: prompts.map((row) =>
        padded(
          row,
          0,
          row.map(() => 1),
        ),
      ),
      ...lookup(params),
      generationConfig: { ...generationConfig, eosTokenId: (params.eos_token_id ?? []) as number[] },
      maxNewTokens: 14,
      doSample: false,
      repetitionPenalty: (params.repetition_penalty ?? 1) as number,
    });
    expect(output.sequences.map((row) => row.slice(width))).toEqual(tokens);
    for (const [i, score] of (scores ?? []).entries())
      expect(Math.abs((output.sequencesScores?.[i] as number) / score - 1)).toBeLessThan(2e-6);
  });

  it('the beams of one prompt are the same in company', async () => {
    const options = { numBeams: 3, numReturnSequences: 2, maxNewTokens: 9, doSample: false, eosTokenId: [] };
    const [first, second] = [
      [11, 45, 7],
      [3, 99, 100],
    ];
    const together = await model.generate({ inputIds: [first, second], ...options });
    const alone = await Promise.all(
      [first, second].map((row) => model.generate({ inputIds: [row], ...options })),
    );
    expect(together.sequences).toEqual(alone.flatMap(({ sequences }) => sequences));
    // Whether the two share passes, and with that the last bits of float32, is a matter of time.
    const scores = alone.flatMap(({ sequencesScores = [] }) => sequencesScores);
    for (const [i, score] of scores.entries()) expect(together.sequencesScores?.[i]).toBeCloseTo(score, 5);
  });
});

it.each(golden.top_h.cases)(
  'top_h $top_h with top_k $top_k keeps what transformers keeps',
  ({ top_h, top_k, kept }) => {
    const scores = Float32Array.from(golden.top_h.scores);
    const candidates = new Candidates(scores.length);
    filterScores(
      candidates,
      scores,
      resolveParameters([parseGenerationConfig({ do_sample: true, top_h, top_k })]),
    );
    expect([...candidates.ids.subarray(0, candidates.count)]).toEqual(kept);
  },
);
