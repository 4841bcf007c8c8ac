import { describe, expect, it } from 'vitest';
import type { TokenConstraint } from '../../src/generation/constraint.ts';
import type { GenerationParameters } from '../../src/generation/parameters.ts';
import { Random } from '../../src/generation/random.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import { TokenChoice } from '../../src/generation/token-choice.ts';
import { newTokens, PROMPT, run } from './generating.ts';
import { topLogits } from './lookup-model.ts';

const VOCAB = 900;
const TOKENS = [5, 9, 5, 7, 9, 5];

interface Setting {
  parameters?: GenerationParameters;
  constraint?: TokenConstraint;
  tokens?: number[];
  promptLength?: number;
}

/** A token from the highest scores, and from all; how often each way took all scores, and what its draws left. */
async function bothWays(scores: Float32Array, setting: Setting) {
  const { parameters = {}, constraint, tokens = TOKENS, promptLength = 2 } = setting;
  const resolved = resolveParameters([parameters]);
  const choice = new TokenChoice(resolved, scores.length, 100, constraint !== undefined);
  const counts = new Map<number, number>();
  for (const id of tokens.slice(promptLength)) counts.set(id, (counts.get(id) ?? 0) + 1);
  const { values, ids } = topLogits(scores, 1, choice.candidates);
  const choose = async (values: Float32Array, ids: Int32Array) => {
    const random = new Random(5);
    const row = { index: 0, tokens, promptLength, seen: new Set(tokens), counts, random, constraint };
    let taken = 0;
    const logits = async () => {
      taken++;
      return scores;
    };
    const token = await choice.choose({ values, ids, logits }, row);
    return { token, taken, draw: random.uint32() };
  };
  return {
    candidates: choice.candidates,
    top: await choose(values, ids),
    all: await choose(new Float32Array(), new Int32Array()),
  };
}

/** Scores of which no two are equal, some of them no numbers; the tokens of the row are likely. */
function someScores(seed: number): Float32Array {
  const random = new Random(seed);
  const scores = Float32Array.from({ length: VOCAB }, () => 20 * random.uniform() - 2);
  scores[100 + seed] = seed % 3 === 0 ? Number.NaN : -Infinity;
  for (const id of TOKENS) scores[id] = 17.5 + 0.1 * id;
  return scores;
}

const even: TokenConstraint = { allows: (id) => id % 2 === 0, advance: () => {}, isComplete: false };

describe('the highest scores give the token that all scores give', () => {
  it.each<Setting & { name: string }>([
    { name: 'greedy' },
    { name: 'sampling', parameters: { doSample: true } },
    { name: 'topK 1', parameters: { doSample: true, topK: 1, temperature: 0.7 } },
    { name: 'topP', parameters: { doSample: true, topK: 7, topP: 0.8 } },
    { name: 'minP', parameters: { doSample: true, topK: 200, minP: 0.02, temperature: 1.7 } },
    { name: 'typicalP', parameters: { doSample: true, topK: 40, typicalP: 0.6 } },
    { name: 'topH', parameters: { doSample: true, topK: 0, topH: 0.5 } },
    { name: 'topH and topK', parameters: { doSample: true, topK: 4, topH: 0.9 } },
    { name: 'repetition penalty', parameters: { repetitionPenalty: 1.3 } },
    { name: 'presence', parameters: { doSample: true, presencePenalty: 1.5 } },
    { name: 'frequency', parameters: { frequencyPenalty: 2, presencePenalty: 0.5 } },
    { name: 'n-grams', parameters: { noRepeatNgramSize: 2 } },
    { name: 'bad words', parameters: { badWordsIds: [[5, 9], [7]], doSample: true, topK: 3 } },
    { name: 'minimum', parameters: { eosTokenId: [9, 7], minNewTokens: 90 } },
    { name: 'suppressed', parameters: { suppressTokens: [9, 7, 5] } },
    { name: 'a bias that lowers', parameters: { logitBias: { 9: -3 }, doSample: true } },
    {
      name: 'allowed by prefix',
      parameters: { prefixAllowedTokensFn: () => Array.from({ length: 450 }, (_, i) => 2 * i) },
    },
    { name: 'a constraint', constraint: even },
    { name: 'a constraint, sampling', constraint: even, parameters: { doSample: true, topK: 30, topP: 0.9 } },
    { name: 'a constraint and penalties', constraint: even, parameters: { repetitionPenalty: 1.3 } },
  ])('$name', async (setting) => {
    for (let seed = 0; seed < 40; seed++) {
      const { top, all } = await bothWays(someScores(seed), setting);
      expect(top).toEqual({ ...all, taken: 0 });
      expect(all.taken).toBe(1);
    }
  });

  it.each<Setting & { name: string }>([
    { name: 'a bias that raises', parameters: { logitBias: { 899: 30 } } },
    { name: 'a repetition reward', parameters: { repetitionPenalty: 0.8 } },
    { name: 'a presence reward', parameters: { presencePenalty: -2 } },
    {
      name: 'a function of the caller’s',
      parameters: { logitsProcessors: [(_, scores) => void scores.fill(99, 3, 4)] },
    },
    { name: 'no top-k', parameters: { doSample: true, topK: 0 } },
  ])('$name takes all scores at once', async (setting) => {
    const { candidates, top, all } = await bothWays(someScores(1), setting);
    expect(candidates).toBe(0);
    expect(top).toEqual(all);
  });

  it('the decay of length takes all scores once it has started, and the forced end at its turn', async () => {
    const decay = { eosTokenId: 899, exponentialDecayLengthPenalty: [2, 9] as const };
    const late = await bothWays(someScores(1), { parameters: decay });
    expect(late.top).toEqual({ ...late.all, token: 899, taken: 1 });
    expect((await bothWays(someScores(1), { parameters: decay, tokens: TOKENS.slice(0, 3) })).top.taken).toBe(
      0,
    );
  });

  it('keeps ties with the last of the top-k that fit the list', async () => {
    const scores = Float32Array.from({ length: 500 }, (_, id) => (id % 50 === 0 ? 2 : -id));
    const { candidates, top, all } = await bothWays(scores, { parameters: { doSample: true, topK: 3 } });
    expect(candidates).toBe(17);
    expect(top).toEqual({ ...all, taken: 0 });
  });

  it('takes all scores where ties reach beyond the list', async () => {
    const scores = new Float32Array(500).fill(1);
    expect((await bothWays(scores, { parameters: { doSample: true, topK: 3 } })).top.taken).toBe(1);
    // Different scores that the division rounds to one.
    const close = Float32Array.from({ length: 500 }, (_, id) => 1 + (id % 2) * 2 ** -23);
    const parameters = { doSample: true, topK: 250, temperature: 3 };
    expect((await bothWays(close, { parameters })).top.taken).toBe(1);
  });

  it('of equal scores the lowest id is the likeliest, also where penalties make them equal', async () => {
    const scores = new Float32Array(500).fill(1);
    expect((await bothWays(scores, {})).top).toMatchObject({ token: 0, taken: 0 });
    scores[5] = 2;
    const tie = await bothWays(scores, { parameters: { repetitionPenalty: 2 } });
    expect(tie.top).toEqual({ ...tie.all, taken: 0 });
    expect(tie.top.token).toBe(0);
  });

  it('takes all scores where penalties empty the list', async () => {
    const scores = Float32Array.from({ length: 500 }, (_, id) => -id);
    const suppressTokens = Array.from({ length: 80 }, (_, id) => id);
    const { top } = await bothWays(scores, { parameters: { suppressTokens } });
    expect(top).toMatchObject({ token: 80, taken: 1 });
  });

  it('lists as much as the vocabulary has', async () => {
    const scores = Float32Array.of(1, 4, 2, 3, 0, 0, 0, 0, 0, 0);
    const { candidates, top, all } = await bothWays(scores, { parameters: { doSample: true, topK: 3 } });
    expect(candidates).toBe(10);
    expect(top).toEqual({ ...all, taken: 0 });
  });

  it('a top-k beyond the vocabulary or any use takes all scores', async () => {
    for (const topK of [9000, 2000]) {
      const { candidates } = await bothWays(new Float32Array(9000), { parameters: { doSample: true, topK } });
      expect(candidates).toBe(0);
    }
  });

  it('says what is wrong with the scores', async () => {
    const broken = new Float32Array(30).fill(Number.NaN);
    await expect(bothWays(broken, { parameters: { doSample: true, topK: 5 } })).rejects.toThrow(/NaN/);
    await expect(bothWays(broken, {})).rejects.toThrow(/NaN/);
  });
});

describe('a constraint', () => {
  const only = (allowed: readonly number[]) => {
    const asked: number[] = [];
    const allows = (id: number) => {
      asked.push(id);
      return allowed.includes(id);
    };
    return { asked, constraint: { allows, advance: () => {}, isComplete: false } };
  };

  it('is asked about the likeliest, until enough are allowed', async () => {
    const scores = Float32Array.from({ length: 5000 }, (_, id) => -id);
    const { asked, constraint } = only([3, 7, 20, 30]);
    expect((await bothWays(scores, { constraint })).top).toMatchObject({ token: 3, taken: 0 });
    expect(asked.slice(0, 4)).toEqual([0, 1, 2, 3]);
  });

  it('that refuses all candidates is asked about more, and about all at last', async () => {
    const scores = Float32Array.from({ length: 5000 }, (_, id) => -id);
    expect(await bothWays(scores, only([900])).then(({ top }) => top)).toMatchObject({
      token: 900,
      taken: 1,
    });
    expect((await bothWays(scores, only([4999])).then(({ top }) => top)).token).toBe(4999);
    await expect(bothWays(scores, only([]))).rejects.toThrow(/No token is left to choose: .*constraint/);
  });

  it('that can list what it allows is not asked about all', async () => {
    const scores = Float32Array.from({ length: 5000 }, (_, id) => -id);
    const { asked, constraint } = only([4998]);
    const listing = { ...constraint, allowed: () => [4998, 6000] };
    expect((await bothWays(scores, { constraint: listing })).top.token).toBe(4998);
    expect(asked.length).toBeLessThan(2200);
  });

  it('follows its own row, and ends it when it is complete', async () => {
    const factory = (row: number): TokenConstraint => {
      const taken: number[] = [];
      return {
        allows: (id) => id === 10 * (row + 1) + taken.length,
        advance: (id) => taken.push(id),
        get isComplete() {
          return taken.length === 3 + row;
        },
      };
    };
    const output = await run({ inputIds: [PROMPT, PROMPT], constraint: factory });
    expect(output.sequences.map((row) => row.slice(3))).toEqual([
      [10, 11, 12],
      [20, 21, 22, 23],
    ]);
    expect(output.finishReasons).toEqual(['stop', 'stop']);
  });

  it('must be made by a function', async () => {
    await expect(run({ constraint: even as never })).rejects.toThrow(/constraint is .*; expected a function/);
  });
});

describe('presence and frequency penalties', () => {
  it('count new tokens, not the prompt', async () => {
    const [first] = await newTokens({ maxNewTokens: 1 });
    const prompt = [first?.[0] as number, ...PROMPT.slice(1)];
    const [free] = await newTokens({ inputIds: [prompt], maxNewTokens: 1 });
    const [penalised] = await newTokens({ inputIds: [prompt], maxNewTokens: 1, presencePenalty: 2 });
    expect(penalised).toEqual(free);
  });

  it('the one takes its amount once, the other for each time', async () => {
    const scores = new Float32Array(30).fill(-100);
    scores[5] = 10;
    scores[9] = 9;
    scores[1] = 6.9;
    // 5 has come twice among the new tokens, 9 once: 10 − 2·1.5 and 9 − 1.5 against 10 − 1.5 and 9 − 1.5.
    const tokens = [1, 5, 5, 9];
    const choose = async (parameters: GenerationParameters) =>
      (await bothWays(scores, { parameters, tokens, promptLength: 1 })).top.token;
    expect(await choose({ presencePenalty: 1.5 })).toBe(5);
    expect(await choose({ frequencyPenalty: 1.5 })).toBe(9);
    expect(await choose({ frequencyPenalty: 1.5, presencePenalty: 2 })).toBe(1);
  });

  it.each([{ presencePenalty: 3 }, { frequencyPenalty: -2.1 }])('%o is refused', async (parameters) => {
    await expect(run(parameters)).rejects.toThrow(/from -2 to 2/);
  });
});

describe('allowed by prefix', () => {
  it('sees the row and its number', async () => {
    const seen: [number[], number][] = [];
    const prefixAllowedTokensFn = (tokens: readonly number[], row: number) => {
      seen.push([[...tokens], row]);
      return [tokens.length + 10];
    };
    const rows = await newTokens({ inputIds: [PROMPT, [1, 2, 3]], prefixAllowedTokensFn, maxNewTokens: 2 });
    expect(rows).toEqual([
      [13, 14],
      [13, 14],
    ]);
    expect(seen.slice(0, 2)).toEqual([
      [PROMPT, 0],
      [[1, 2, 3], 1],
    ]);
  });

  it('must allow something', async () => {
    await expect(run({ prefixAllowedTokensFn: () => [] })).rejects.toThrow(/at least one/);
  });
});
