import { describe, expect, it } from 'vitest';
import { lookUp } from '../../src/generation/drafts.ts';
import { AutoModelForCausalLM, type ConstraintFactory } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { generate, model, PROMPT, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

describe('what is guessed', () => {
  it.each<[string, number[], number, number, number[]]>([
    ['what followed the last two tokens where they first stood', [1, 2, 3, 1, 2, 4, 1, 2], 2, 2, [3, 1]],
    ['what followed the last token, where the pair is new', [7, 2, 5, 9, 2], 2, 3, [5, 9, 2]],
    ['nothing for new tokens', [1, 2, 3], 2, 5, []],
    ['nothing where nothing may', [1, 1, 1], 2, 0, []],
    ['the longest match goes first', [1, 2, 3, 8, 2, 3, 9, 1, 2, 3], 3, 1, [8]],
    ['no more than there is', [4, 4], 2, 9, [4]],
  ])('is %s', (_, tokens, size, most, guesses) => {
    expect(lookUp(tokens, size, most)).toEqual(guesses);
  });
});

describe('guessing changes no token', () => {
  const tiny = () => new LookupModel(7);
  it.each([
    {},
    { doSample: true, topK: 3, seed: 5 },
    { repetitionPenalty: 1.1, eosTokenId: 6 },
    { noRepeatNgramSize: 3 },
    { logprobs: 2 },
    { stoppingCriteria: [(tokens: readonly number[]) => tokens.length > 20] },
    { prefixAllowedTokensFn: (tokens: readonly number[]) => [tokens.length % 3, 4, 5] },
  ])('with %o', async (options) => {
    const plain = await generate(tiny(), {}, { inputIds: [[1, 2, 3, 1, 2]], maxNewTokens: 60, ...options });
    const guessing = tiny();
    const { stats, ...output } = await generate(
      guessing,
      {},
      {
        ...{ inputIds: [[1, 2, 3, 1, 2]], maxNewTokens: 60, promptLookupNumTokens: 5 },
        ...options,
      },
    );
    const { stats: plainStats, ...plainOutput } = plain;
    expect(output).toEqual(plainOutput);
    expect(stats.newTokens).toBe(plainStats.newTokens);
    const { drafted = 0, accepted = 0 } = stats.drafts ?? {};
    // A row may end with a guess that was right.
    expect([0, 1]).toContain(stats.newTokens - accepted - guessing.steps.length);
    expect(accepted).toBeLessThanOrEqual(drafted);
  });

  it('and saves passes where the row repeats itself', async () => {
    const { stats } = await generate(
      tiny(),
      {},
      { inputIds: [[1, 2]], maxNewTokens: 80, promptLookupNumTokens: 8 },
    );
    expect(stats.drafts?.accepted).toBeGreaterThan(30);
    expect((await run({ maxNewTokens: 3 })).stats.drafts).toBeUndefined();
  });

  it('is for one row', async () => {
    const options = { inputIds: [PROMPT, PROMPT], promptLookupNumTokens: 3 };
    await expect(generate(model, {}, options)).rejects.toThrow(/promptLookupNumTokens is for one row/);
    await expect(run({ promptLookupNumTokens: 3, numBeams: 2 })).rejects.toThrow(/for one row without beams/);
    await expect(run({ promptLookupNumTokens: 0 })).rejects.toThrow(/from 1 to 128/);
  });
});

/** Forbids a few tokens in turn, and drafts what `guess` makes of the tokens so far. */
function drafting(guess: (tokens: readonly number[]) => readonly number[]): ConstraintFactory {
  return () => {
    const tokens: number[] = [];
    return {
      allows: (id) => id % 5 !== tokens.length % 3,
      advance: (id) => void tokens.push(id),
      isComplete: false,
      draft: () => guess(tokens),
    };
  };
}
const plainly: ConstraintFactory = (row) => {
  const { draft: _, ...rest } = drafting(() => [])(row);
  return rest;
};

describe('what a constraint drafts changes no token', () => {
  const PROMPTS = [
    [1, 2, 3, 1, 2],
    [4, 4, 1, 0, 6],
  ];
  // What comes next follows from two tokens, so that it can be known.
  const known = (tokens: readonly number[]) =>
    [(tokens.at(-1) ?? 0) + 1, 2, tokens.length].map((id) => id % 7);
  it.each([
    { doSample: false },
    { doSample: true, topK: 3, seed: 5 },
    { doSample: true, numReturnSequences: 3, seed: 2 },
    { repetitionPenalty: 1.3, eosTokenId: 6 },
    { guidanceScale: 1.5 },
    { guidanceScale: 2, doSample: true, numReturnSequences: 2, seed: 8 },
    { promptLookupNumTokens: 4, inputIds: PROMPTS.slice(0, 1) },
  ])('with %o', async (options) => {
    const common = { inputIds: PROMPTS, maxNewTokens: 40, ...options };
    const [plain, guessing] = [new LookupModel(7), new LookupModel(7)];
    const { stats: plainStats, ...expected } = await generate(plain, {}, { ...common, constraint: plainly });
    const constraint = drafting(known);
    const { stats, ...output } = await generate(guessing, {}, { ...common, constraint });
    expect(output).toEqual(expected);
    expect(stats.newTokens).toBe(plainStats.newTokens);
    expect(stats.drafts?.accepted).toBeGreaterThan(1);
    expect(stats.drafts?.drafted).toBeGreaterThan(stats.drafts?.accepted as number);
    expect(guessing.open).toBe(0);
  });

  it('and asks for no more tokens than a row may have', async () => {
    const guessing = new LookupModel(7);
    const constraint = drafting(() => Array(500).fill(1));
    const { sequences } = await generate(guessing, {}, { inputIds: [[1]], maxNewTokens: 9, constraint });
    expect(sequences[0]).toHaveLength(10);
    expect(Math.max(...guessing.steps.map(({ length }) => length))).toBe(8);
  });
});

describe.each(['qwen3_moe_c', 'qwen2_moe_b', 'qwen3_next_g', 'qwen3_5_moe_text_i', 'qwen4_exp_k'])(
  '%s',
  (name) => {
    it('takes wrong guesses back, beside other generations, and keeps nothing of them', async () => {
      await using real = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32' });
      // Few tokens to choose from come again and again, and not always in one order.
      const prefixAllowedTokensFn = () => [5, 6, 7, 8, 9];
      const common = {
        doSample: true,
        temperature: 3,
        seed: 4,
        eosTokenId: [],
        repetitionPenalty: 1,
        maxNewTokens: 90,
        prefixAllowedTokensFn,
      };
      const prompts = [
        [11, 45, 7, 301],
        [3, 99, 100, 3, 99],
      ];
      const plain = await Promise.all(prompts.map((row) => real.generate({ inputIds: [row], ...common })));
      const longer = plain.map(({ sequences }) => [
        ...(sequences[0] as number[]),
        ...(sequences[0] as number[]).slice(0, 5),
      ]);
      const expected = await Promise.all(longer.map((row) => real.generate({ inputIds: [row], ...common })));
      const guessed = await Promise.all(
        longer.map((row) => real.generate({ inputIds: [row], ...common, promptLookupNumTokens: 6 })),
      );
      expect(guessed.map(({ sequences }) => sequences)).toEqual(expected.map(({ sequences }) => sequences));
      const drafts = guessed.map(({ stats }) => stats.drafts ?? { drafted: 0, accepted: 0 });
      expect(drafts.some(({ accepted }) => accepted > 0)).toBe(true);
      expect(drafts.some(({ accepted, drafted }) => drafted > accepted)).toBe(true);
      // What the cache of prefixes keeps is what a plain generation computes.
      const again = await real.generate({
        inputIds: guessed[0]?.sequences as number[][],
        ...common,
        maxNewTokens: 8,
      });
      const fresh = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32' });
      const alone = await fresh.generate({
        inputIds: guessed[0]?.sequences as number[][],
        ...common,
        maxNewTokens: 8,
      });
      expect(again.sequences).toEqual(alone.sequences);
      await fresh.dispose();
    });

    it('takes back in each of several rows what was wrong in it', async () => {
      await using real = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32' });
      const common = {
        inputIds: [
          [11, 45, 7, 301],
          [3, 99, 100, 3],
        ],
        ...{
          doSample: false,
          eosTokenId: [],
          repetitionPenalty: 1,
          maxNewTokens: 40,
        },
      };
      const plain = await real.generate({ ...common, constraint: plainly });
      // The tokens that come, one of them now and then another.
      const coming = (row: number) => (tokens: readonly number[]) =>
        (plain.sequences[row] as number[])
          .slice(4 + tokens.length, 4 + tokens.length + ((tokens.length + row) % 4))
          .map((id, i) => (tokens.length % 5 === 0 && i === 1 ? (id + 1) % 200 : id));
      const constraint: ConstraintFactory = (row) => drafting(coming(row))(row);
      const output = await real.generate({ ...common, constraint });
      expect(output.sequences).toEqual(plain.sequences);
      const { drafted = 0, accepted = 0 } = output.stats.drafts ?? {};
      expect(accepted).toBeGreaterThan(20);
      expect(drafted).toBeGreaterThan(accepted);
    });
  },
);
