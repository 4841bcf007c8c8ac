import { describe, expect, it } from 'vitest';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import { edit, generate, model, newTokens, PROMPT, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

describe('processors', () => {
  it('the repetition penalty covers the prompt, but not padding', async () => {
    const first = model.greedy(PROMPT, 1)[0] as number;
    const prompt = [first, ...PROMPT.slice(1)];
    const likeliest = model.greedy(prompt, 1)[0] as number;
    const free = await newTokens({ inputIds: [prompt], maxNewTokens: 1 });
    expect(free).toEqual([[likeliest]]);
    const seen = [likeliest, ...prompt.slice(1)];
    const penalized = await newTokens({ inputIds: [seen], maxNewTokens: 1, repetitionPenalty: 100 });
    expect(penalized).not.toEqual([[likeliest]]);
    const padded = {
      inputIds: [[likeliest, ...prompt.slice(1)]],
      attentionMask: [[0, 1, 1]],
      maxNewTokens: 1,
    };
    expect(await newTokens({ ...padded, repetitionPenalty: 100 })).toEqual([[likeliest]]);
  });

  it('no n-gram comes twice', async () => {
    const tiny = new LookupModel(6);
    const options = { inputIds: [[1, 2, 3]], maxNewTokens: 40 };
    const pairsOf = (row: number[]) => row.slice(1).map((token, i) => `${row[i]},${token}`);
    const repeating = pairsOf((await generate(tiny, {}, options)).sequences[0] as number[]);
    expect(new Set(repeating).size).toBeLessThan(repeating.length);
    const limited = { ...options, maxNewTokens: 20, noRepeatNgramSize: 2 };
    const pairs = pairsOf((await generate(tiny, {}, limited)).sequences[0] as number[]);
    expect(new Set(pairs).size).toBe(pairs.length);
  });

  it('bad words do not come', async () => {
    const line = model.greedy(PROMPT, 3) as [number, number, number];
    expect(await newTokens({ badWordsIds: [[line[0]]], maxNewTokens: 3 })).not.toEqual([line]);
    const [tokens] = await newTokens({ badWordsIds: [[line[0], line[1]]], maxNewTokens: 3 });
    expect(tokens?.[0]).toBe(line[0]);
    expect(tokens?.[1]).not.toBe(line[1]);
  });

  it('the caller’s own see the row and change its logits', async () => {
    const lengths: number[] = [];
    const only = (id: number) => (tokens: readonly number[], scores: Float32Array) => {
      lengths.push(tokens.length);
      scores.fill(-Infinity);
      scores[id] = 0;
    };
    expect(await newTokens({ logitsProcessors: [only(7)], maxNewTokens: 3 })).toEqual([[7, 7, 7]]);
    expect(lengths).toEqual([3, 4, 5]);
  });

  it('suppressed tokens do not come, at the start or at all', async () => {
    const line = model.greedy(PROMPT, 3) as [number, number, number];
    const first = (await newTokens({ beginSuppressTokens: [line[0]], maxNewTokens: 1 }))[0]?.[0];
    expect(first).not.toBe(line[0]);
    const others = Array.from({ length: 97 }, (_, id) => id).filter((id) => id !== 40 && id !== line[0]);
    const [tokens] = await newTokens({
      suppressTokens: others,
      beginSuppressTokens: [line[0]],
      maxNewTokens: 12,
    });
    expect(tokens?.[0]).toBe(40);
    expect(new Set(tokens)).toEqual(new Set([40, line[0]]));
  });

  it('the last token that the limit leaves can be forced', async () => {
    const [tokens] = await newTokens({ forcedEosTokenId: 9, maxNewTokens: 4 });
    expect(tokens).toEqual([...model.greedy(PROMPT, 3), 9]);
    expect((await newTokens({ maxNewTokens: 4 }, { forcedEosTokenId: [9, 3] }))[0]?.[3]).toBe(3);
  });

  it('a bias moves a token, and the end of a sequence after its beginning', async () => {
    const line = model.greedy(PROMPT, 2) as [number, number];
    expect(await newTokens({ sequenceBias: [[[50], 100]], maxNewTokens: 2 })).toEqual([[50, 50]]);
    const [tokens] = await newTokens({ sequenceBias: [[[line[0], 50], 100]], maxNewTokens: 2 });
    expect(tokens).toEqual([line[0], 50]);
  });

  it('the end token comes the more likely the longer a row is', async () => {
    const end = 51;
    expect(model.greedy(PROMPT, 20)).not.toContain(end);
    const options = { eosTokenId: end, exponentialDecayLengthPenalty: [4, 3] as const, maxNewTokens: 40 };
    const { sequences, finishReasons } = await run(options);
    expect(finishReasons).toEqual(['eos']);
    expect(sequences[0]?.slice(3, 7)).toEqual(model.greedy(PROMPT, 4));
    expect(sequences[0]?.length).toBeLessThan(20);
  });

  it('numbers that are none can be taken as 0, infinite ones as the largest', async () => {
    const broken = (_: readonly number[], scores: Float32Array) => scores.fill(Number.NaN) && undefined;
    const scores = Float32Array.of(Number.NaN, Infinity, -Infinity, 2);
    const row = { index: 0, tokens: [], promptLength: 0, seen: new Set<number>(), counts: new Map() };
    edit(scores, resolveParameters([{ removeInvalidValues: true }]), row);
    expect([...scores]).toEqual([0, 3.4028234663852886e38, -3.4028234663852886e38, 2]);
    await expect(run({ logitsProcessors: [broken] })).rejects.toThrow(/all logits are NaN/);
  });

  it('that forbid everything are an error', async () => {
    const logitsProcessors = [(_: readonly number[], scores: Float32Array) => void scores.fill(-Infinity)];
    for (const doSample of [false, true]) {
      await expect(run({ logitsProcessors, doSample })).rejects.toThrow(/No token is left to choose/);
    }
    expect(model.open).toBe(0);
  });
});

describe('sampling', () => {
  it('repeats with the same seed and differs with another', async () => {
    const sample = (seed: number) => newTokens({ doSample: true, topK: 0, seed, maxNewTokens: 30 });
    expect(await sample(7)).toEqual(await sample(7));
    expect(await sample(7)).not.toEqual(await sample(8));
    expect(await sample(2 ** 53 - 1)).not.toEqual(await sample(2 ** 21 - 1));
  });

  it('differs from call to call without a seed', async () => {
    const sample = () => newTokens({ doSample: true, topK: 0, maxNewTokens: 40 });
    expect(await sample()).not.toEqual(await sample());
  });

  it('gives the first row of a batch what it gives the row alone', async () => {
    const options = { doSample: true, topK: 0, seed: 3, maxNewTokens: 12 };
    const batch = await run({ ...options, inputIds: [PROMPT, [4, 4, 4]] });
    expect(batch.sequences[0]).toEqual((await run(options)).sequences[0]);
  });

  it('numReturnSequences repeats each prompt, with its own draws', async () => {
    const other = [4, 4, 4];
    const { sequences, finishReasons } = await run({
      inputIds: [PROMPT, other],
      doSample: true,
      topK: 0,
      seed: 1,
      numReturnSequences: 3,
    });
    expect(sequences.map((row) => row.slice(0, 3))).toEqual([PROMPT, PROMPT, PROMPT, other, other, other]);
    expect(new Set(sequences.map(String)).size).toBe(6);
    expect(finishReasons).toHaveLength(6);
    await expect(run({ numReturnSequences: 2 })).rejects.toThrow(/doSample: true/);
  });

  it('numReturnSequences runs each prompt once', async () => {
    const small = new LookupModel(97);
    const options = { inputIds: [PROMPT, [4, 4, 4]], doSample: true, topK: 0, seed: 1, maxNewTokens: 3 };
    const { sequences, stats } = await generate(small, {}, { ...options, numReturnSequences: 3 });
    expect(small.requests[0]?.prompts).toHaveLength(2);
    expect(stats.promptTokens).toBe(6);
    expect(small.steps.map((tokens) => tokens.length)).toEqual([6, 6]);
    const rows = [PROMPT, PROMPT, PROMPT, [4, 4, 4], [4, 4, 4], [4, 4, 4]];
    expect(sequences).toEqual((await generate(small, {}, { ...options, inputIds: rows })).sequences);
  });

  it('passes over its parameters where a call or generation_config.json chooses greedy decoding', async () => {
    const parameters = { temperature: 3, topK: 7, topP: 0.1, minP: 0.5 };
    for (const greedy of [
      newTokens({ ...parameters, doSample: false }),
      newTokens({ ...parameters, temperature: 0 }),
      newTokens({ doSample: false, generationConfig: { ...parameters, doSample: true } }),
      newTokens({}, parameters),
      newTokens({}, { ...parameters, doSample: false }),
    ])
      expect(await greedy).toEqual([model.greedy(PROMPT, 20)]);
  });

  it('at temperature 0 is greedy', async () => {
    expect(await newTokens({ doSample: true, temperature: 0 })).toEqual([model.greedy(PROMPT, 20)]);
    expect(await newTokens({ temperature: 0 }, { doSample: true, topK: 0 })).toEqual([
      model.greedy(PROMPT, 20),
    ]);
    expect(await newTokens({ generationConfig: { temperature: 0 } }, { doSample: true })).toEqual([
      model.greedy(PROMPT, 20),
    ]);
  });

  it('with topK 1 is greedy', async () => {
    expect(await newTokens({ doSample: true, topK: 1 })).toEqual([model.greedy(PROMPT, 20)]);
  });
});
