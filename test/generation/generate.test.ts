import { describe, expect, it } from 'vitest';
import { AbortError, InputError } from '../../src/errors.ts';
import { GenerationAbortError, generate } from '../../src/generation/generate.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { scoreProcessors } from '../../src/generation/logits-processors.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';
import type { Streamer } from '../../src/generation/streamers.ts';
import { LookupModel } from './lookup-model.ts';

const model = new LookupModel(97);
const PROMPT = [5, 17, 3];
const run = (options: Partial<GenerateOptions>, defaults = {}) =>
  generate(model, defaults, { inputIds: [PROMPT], ...options });
const newTokens = async (options: Partial<GenerateOptions>, defaults = {}) =>
  (await run(options, defaults)).sequences.map((row) => row.slice(PROMPT.length));

describe('greedy generation', () => {
  it('takes the likeliest token, 20 times by default', async () => {
    const { sequences, finishReasons, stats } = await run({});
    expect(sequences).toEqual([[...PROMPT, ...model.greedy(PROMPT, 20)]]);
    expect(finishReasons).toEqual(['length']);
    expect(stats).toMatchObject({ promptTokens: 3, newTokens: 20, expertsCalls: { eager: 20 } });
    expect(model.open).toBe(0);
  });

  it('leaves the model alone with one token, and feeds each token once', async () => {
    const small = new LookupModel(97);
    await generate(small, {}, { inputIds: [PROMPT], maxNewTokens: 1 });
    expect(small.steps).toEqual([]);
    await generate(small, {}, { inputIds: [PROMPT], maxNewTokens: 4 });
    expect(small.steps).toEqual(small.greedy(PROMPT, 3).map((token) => [token]));
  });

  it('ends a row with any token of the end list, and keeps it', async () => {
    const line = model.greedy(PROMPT, 20);
    const end = line[6] as number;
    const length = line.indexOf(end) + 1;
    const { sequences, finishReasons } = await run({ eosTokenId: [96, end] });
    expect(sequences).toEqual([[...PROMPT, ...line.slice(0, length)]]);
    expect(finishReasons).toEqual(['eos']);
    expect((await run({ eosTokenId: end })).sequences).toEqual(sequences);
  });

  it('lets a call switch off the end token of generation_config.json', async () => {
    const end = model.greedy(PROMPT, 1)[0] as number;
    expect(await newTokens({}, { eosTokenId: end })).toEqual([[end]]);
    expect(await newTokens({ eosTokenId: null }, { eosTokenId: end })).toEqual([model.greedy(PROMPT, 20)]);
    expect(await newTokens({ eosTokenId: [] }, { eosTokenId: end })).toEqual([model.greedy(PROMPT, 20)]);
  });

  it('gives each row of a padded batch what it gives the row alone', async () => {
    const long = [9, 8, 7, 6, 5];
    const endOfShort = model.greedy(PROMPT, 20)[4] as number;
    const batch = await run({
      inputIds: [[0, 0, ...PROMPT], long],
      attentionMask: [
        [0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
      ],
      eosTokenId: endOfShort,
    });
    const [alone, other] = [
      await run({ eosTokenId: endOfShort }),
      await run({ inputIds: [long], eosTokenId: endOfShort }),
    ];
    expect(batch.sequences).toEqual([[0, 0, ...(alone.sequences[0] as number[])], other.sequences[0]]);
    expect(batch.finishReasons).toEqual([alone.finishReasons[0], other.finishReasons[0]]);
    expect(batch.finishReasons[0]).toBe('eos');
    expect(batch.stats.promptTokens).toBe(8);
  });

  it('takes no further step for rows that have ended', async () => {
    const small = new LookupModel(97);
    const [short, long] = [PROMPT, [9, 8, 7]];
    const end = small.greedy(short, 3)[2] as number;
    expect(small.greedy(long, 12)).not.toContain(end);
    const ends = small.greedy(short, 12).indexOf(end) + 1;
    const options = { inputIds: [short, long], eosTokenId: end, maxNewTokens: 12 };
    const { sequences } = await generate(small, {}, options);
    expect(sequences.map((row) => row.length)).toEqual([3 + ends, 15]);
    expect(small.steps.map((tokens) => tokens.length)).toEqual([
      ...Array(ends - 1).fill(2),
      ...Array(12 - ends).fill(1),
    ]);
  });

  it('gives the model prompts without padding', async () => {
    const small = new LookupModel(97);
    await generate(
      small,
      {},
      { inputIds: [[0, 0, ...PROMPT]], attentionMask: [[0, 0, 1, 1, 1]], maxNewTokens: 2 },
    );
    expect(small.requests).toEqual([{ prompts: [{ ids: PROMPT }], newTokens: 2 }]);
  });

  it('passes on the experts backend, and what a model has put into its prompts', async () => {
    const small = new LookupModel(97);
    const options = { inputIds: [PROMPT], maxNewTokens: 1, expertsImplementation: 'eager' };
    const rows = [{ ids: PROMPT, picture: 'here' }];
    await generate(small, {}, options, { given: [PROMPT], rows });
    expect(small.requests[0]).toEqual({ prompts: rows, newTokens: 1, expertsImplementation: 'eager' });
  });
});

describe('lengths', () => {
  it('maxLength counts the prompt', async () => {
    expect(await newTokens({ maxLength: 8 })).toEqual([model.greedy(PROMPT, 5)]);
  });

  it('the stronger level decides between maxNewTokens and maxLength', async () => {
    expect(await newTokens({ maxLength: 8 }, { maxNewTokens: 2 })).toEqual([model.greedy(PROMPT, 5)]);
    expect(await newTokens({ maxNewTokens: 2, maxLength: 8 })).toEqual([model.greedy(PROMPT, 2)]);
    expect(await newTokens({ generationConfig: { maxNewTokens: 4 } }, { maxNewTokens: 2 })).toEqual([
      model.greedy(PROMPT, 4),
    ]);
    expect(await newTokens({}, { maxNewTokens: 2 })).toEqual([model.greedy(PROMPT, 2)]);
  });

  it('a full context ends the generation', async () => {
    const small = new LookupModel(97, { contextLength: 7 });
    const { sequences, finishReasons } = await generate(small, {}, { inputIds: [PROMPT], maxNewTokens: 50 });
    expect(sequences[0]).toHaveLength(7);
    expect(finishReasons).toEqual(['length']);
    expect(small.requests[0]?.newTokens).toBe(4);
  });

  it('a prompt that fills the context has no continuation; a longer one is refused', async () => {
    const small = new LookupModel(97, { contextLength: 3 });
    const { sequences, finishReasons, stats } = await generate(small, {}, { inputIds: [PROMPT] });
    expect([sequences, finishReasons, stats.newTokens]).toEqual([[PROMPT], ['length'], 0]);
    await expect(generate(small, {}, { inputIds: [[...PROMPT, 1]] })).rejects.toThrow(
      /prompt has 4 tokens, but the model's context holds 3/,
    );
  });

  it.each([
    ['minNewTokens', 9],
    ['minLength', 12],
  ])('%s keeps the end token away', async (name, value) => {
    const end = model.greedy(PROMPT, 1)[0] as number;
    const [tokens] = await newTokens({ [name]: value, eosTokenId: end, maxNewTokens: 60 });
    expect(tokens?.slice(0, 9)).not.toContain(end);
    expect(tokens?.length).toBeGreaterThanOrEqual(9);
  });

  it('maxTime ends the generation', async () => {
    const slow = new LookupModel(97, { pause: () => new Promise((resolve) => setTimeout(resolve, 5)) });
    const options = { inputIds: [PROMPT, PROMPT], maxNewTokens: 4000, maxTime: 0.05 };
    const { sequences, finishReasons } = await generate(slow, {}, options);
    expect(finishReasons).toEqual(['time', 'time']);
    expect(sequences[0]?.length).toBeGreaterThan(3);
    expect(slow.open).toBe(0);
  });
});

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
    const chain = scoreProcessors(resolveParameters([{ removeInvalidValues: true }]));
    const scores = Float32Array.of(Number.NaN, Infinity, -Infinity, 2);
    for (const process of chain) process(scores, { index: 0, tokens: [], promptLength: 0, seen: new Set() });
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

  it('ignores sampling parameters without doSample, as transformers does', async () => {
    const parameters = { temperature: 0.1, topK: 1, topP: 0.1, minP: 0.5 };
    expect(await newTokens(parameters)).toEqual([model.greedy(PROMPT, 20)]);
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

describe('several generations at once', () => {
  it('do not disturb one another', async () => {
    const slow = new LookupModel(97, { pause: () => new Promise((resolve) => setImmediate(resolve)) });
    const options = Array.from({ length: 6 }, (_, i) => ({
      inputIds: [[i, i + 1, 3]],
      doSample: i % 2 === 1,
      seed: i,
    }));
    const together = await Promise.all(options.map((one) => generate(slow, {}, one)));
    for (const [i, one] of options.entries()) {
      expect(together[i]?.sequences).toEqual((await generate(model, {}, one)).sequences);
    }
  });
});

describe('aborting', () => {
  it('rejects with what was generated so far', async () => {
    const controller = new AbortController();
    const streamer: Streamer = {
      put: () => {
        if (++puts === 6) controller.abort(new Error('enough'));
      },
      end: () => {},
    };
    let puts = 0;
    const error = await run({ maxNewTokens: 500, streamer, signal: controller.signal }).catch(
      (reason) => reason,
    );
    expect(error).toBeInstanceOf(GenerationAbortError);
    expect(error).toBeInstanceOf(AbortError);
    expect(error.name).toBe('AbortError');
    expect(error.cause.message).toBe('enough');
    expect(error.partial.sequences).toEqual([[...PROMPT, ...model.greedy(PROMPT, 5)]]);
    expect(error.partial.stats).toMatchObject({ newTokens: 5, expertsCalls: { eager: 5 } });
    expect(model.open).toBe(0);
  });

  it('before the start runs nothing', async () => {
    const small = new LookupModel(97);
    const options = { inputIds: [PROMPT], signal: AbortSignal.abort() };
    const error = await generate(small, {}, options).catch((reason) => reason);
    expect(error.partial.sequences).toEqual([PROMPT]);
    expect(small.requests).toEqual([]);
  });

  it('works from a timer, though the model never waits', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    const endless = generate(
      new LookupModel(97, { contextLength: 1e9 }),
      {},
      {
        inputIds: [PROMPT],
        maxNewTokens: 1e8,
        signal: controller.signal,
      },
    );
    await expect(endless).rejects.toBeInstanceOf(GenerationAbortError);
  });
});

describe('what a caller does to what it is given', () => {
  const junk = (ids: readonly number[]) => {
    (ids as number[]).length = 0;
    (ids as number[]).push(96);
  };

  it('reaches neither the result nor the lengths', async () => {
    const streamer: Streamer = { put: junk, end: () => {} };
    const options = {
      streamer,
      maxNewTokens: 4,
      repetitionPenalty: 1.1,
      stoppingCriteria: [(tokens: readonly number[]) => Boolean(junk(tokens))],
      logitsProcessors: [(tokens: readonly number[]) => junk(tokens)],
    };
    const inputIds = [[...PROMPT]];
    const { sequences, stats } = await generate(model, {}, { ...options, inputIds });
    const calm = await run({ maxNewTokens: 4, repetitionPenalty: 1.1 });
    expect(sequences).toEqual(calm.sequences);
    expect(stats.newTokens).toBe(4);
    expect(inputIds).toEqual([PROMPT]);
  });

  it('does not reach a generation that has begun', async () => {
    const slow = new LookupModel(97, { pause: () => new Promise((resolve) => setImmediate(resolve)) });
    const inputIds = [[...PROMPT]];
    const running = generate(slow, {}, { inputIds, maxNewTokens: 5 });
    inputIds[0]?.fill(1);
    expect((await running).sequences).toEqual([[...PROMPT, ...model.greedy(PROMPT, 5)]]);
  });

  it.each<[string, Partial<GenerateOptions>, RegExp]>([
    [
      'a criterion',
      { stoppingCriteria: [async () => false] as never },
      /stoppingCriteria\[0\] returned a promise/,
    ],
    [
      'a processor',
      { logitsProcessors: [async () => {}] as never },
      /logitsProcessors\[0\] returned .*in place, at once/,
    ],
    [
      'a new array',
      { logitsProcessors: [() => new Float32Array(97)] as never },
      /logitsProcessors\[0\] returned .*in place/,
    ],
    [
      'scores given away',
      {
        logitsProcessors: [
          (_, scores) => void structuredClone(scores, { transfer: [scores.buffer as ArrayBuffer] }),
        ],
      },
      /logitsProcessors\[0\] gave the memory of scores away/,
    ],
  ])('is refused where it would have no effect: %s', async (_, options, message) => {
    await expect(run({ maxNewTokens: 50, ...options })).rejects.toThrow(message);
    expect(model.open).toBe(0);
  });

  it('ends the generation where it throws, and frees it', async () => {
    const fail = () => {
      throw new RangeError('mine');
    };
    const parts: Partial<GenerateOptions>[] = [
      { stoppingCriteria: [fail] },
      { logitsProcessors: [fail] },
      { streamer: { put: fail, end: fail } },
      { streamer: { put: async () => fail(), end: () => {} } },
    ];
    for (const options of parts) await expect(run(options)).rejects.toThrow(new RangeError('mine'));
    expect(model.open).toBe(0);
  });

  it.each(['put', 'end', 'fail'] as const)(
    'a streamer whose %s never returns ends with the signal',
    async (method) => {
      const controller = new AbortController();
      const never = () => {
        setImmediate(() => controller.abort('enough'));
        return new Promise<void>(() => {});
      };
      const fail = () => Promise.reject(new Error('on to the last words'));
      const streamer = { put: method === 'fail' ? fail : () => {}, end: () => {}, [method]: never };
      const error = await run({ streamer, maxNewTokens: 2, signal: controller.signal }).catch(
        (reason) => reason,
      );
      if (method === 'fail') expect(error.message).toBe('on to the last words');
      else expect(error).toMatchObject({ name: 'AbortError', cause: 'enough' });
      expect(model.open).toBe(0);
    },
  );
});

describe('prompts', () => {
  it('may be typed arrays and big integers', async () => {
    const { sequences } = await run({ inputIds: [Int32Array.from(PROMPT)] as never, maxNewTokens: 3 });
    expect(sequences).toEqual([[...PROMPT, ...model.greedy(PROMPT, 3)]]);
    const big = {
      inputIds: [BigInt64Array.from(PROMPT, BigInt)],
      attentionMask: [Uint8Array.from([1, 1, 1])],
    };
    expect((await run({ ...(big as never as object), maxNewTokens: 3 })).sequences).toEqual(sequences);
  });
});

describe('generate refuses', () => {
  it.each<[string, Record<string, unknown>, RegExp]>([
    ['no prompts', { inputIds: undefined }, /inputIds is undefined; expected a list of rows/],
    ['an empty batch', { inputIds: [] }, /inputIds is \[\]; expected a list of rows/],
    ['a single flat prompt', { inputIds: [1, 2] }, /Wrap a single prompt/],
    ['a tensor', { inputIds: { data: new BigInt64Array(2), dims: [1, 2] } }, /of a tensor take the rows/],
    ['a flat typed array', { inputIds: new Int32Array([1]) }, /Wrap a single prompt/],
    ['bytes behind a view', { inputIds: [new DataView(new ArrayBuffer(2))] }, /plain list of numbers/],
    // biome-ignore lint/suspicious/noSparseArray: a hole is what this is about.
    ['a row that is a hole', { inputIds: [[1], , [2]] }, /inputIds is .*expected a list of rows/],
    ['an empty prompt', { inputIds: [[]] }, /prompt of row 0 is empty/],
    [
      'a row of padding alone',
      {
        inputIds: [
          [1, 2],
          [1, 2],
        ],
        attentionMask: [
          [1, 1],
          [0, 0],
        ],
      },
      /row 1 is empty/,
    ],
    ['an id outside the vocabulary', { inputIds: [[1, 97]] }, /row 0, position 1 is 97.*from 0 to 96/],
    ['a negative id', { inputIds: [[-1]] }, /row 0, position 0 is -1/],
    ['a fraction', { inputIds: [[1.5]] }, /position 0 is 1\.5/],
    ['a large bigint', { inputIds: [[2n ** 60n]] }, /position 0 is 1152921504606846976n/],
    ['numbers in words', { inputIds: [['1']] }, /position 0 is "1"/],
    ['NaN', { inputIds: [[Number.NaN]] }, /position 0 is NaN/],
    // biome-ignore lint/suspicious/noSparseArray: a hole is what this is about.
    ['a hole', { inputIds: [[1, , 2]] }, /position 1 is undefined/],
    ['ragged rows', { inputIds: [[1, 2], [1]] }, /row 1 has 1 tokens, row 0 has 2.*Pad/],
    ['a mask of another shape', { attentionMask: [[1, 1]] }, /row 0 has 2 entries, its prompt has 3/],
    ['a mask with other rows', { attentionMask: [] }, /attentionMask is \[\]; expected a list/],
    ['a mask of other numbers', { attentionMask: [[0, 2, 1]] }, /position 1 is 2; expected 0 or 1/],
    ['padding on the right', { attentionMask: [[1, 1, 0]] }, /position 2 is 0 after a 1.*left/],
    ['a negative temperature', { temperature: -1 }, /temperature is -1; .*0 for greedy/],
    [
      'several sequences at temperature 0',
      { temperature: 0, numReturnSequences: 2 },
      /greedy decoding gives/,
    ],
    ['topP above 1', { topP: 1.5 }, /topP is 1\.5/],
    ['a fractional topK', { topK: 1.5 }, /topK is 1\.5/],
    ['an infinite temperature', { temperature: Infinity }, /temperature is Infinity/],
    ['text for a number', { maxNewTokens: '5' }, /maxNewTokens is "5"/],
    ['no new tokens', { maxNewTokens: 0 }, /maxNewTokens is 0/],
    ['a seed beyond 2^53', { seed: 2 ** 53 }, /seed is/],
    ['snake_case', { max_new_tokens: 5 }, /"max_new_tokens" is not an option\. Did you mean "maxNewTokens"/],
    ['a misspelt option', { tempratur: 5 }, /Did you mean "temperature"/],
    ['an unknown option', { zzzzzzzz: 5 }, /not an option; options are .*attentionMask/],
    ['beam search', { numBeams: 4 }, /numBeams is 4; expected 1; beam search is not supported/],
    ['an end token outside the vocabulary', { eosTokenId: [1, 97] }, /eosTokenId has the id 97/],
    ['bad words outside the vocabulary', { badWordsIds: [[1, 200]] }, /badWordsIds has the id 200/],
    ['an empty bad word', { badWordsIds: [[]] }, /badWordsIds is \[\[\]\]/],
    ['a maxLength within the prompt', { maxLength: 3 }, /maxLength is 3, but the prompt alone has 3/],
    ['stop strings without a tokenizer', { stopStrings: ['x'] }, /pass it as the option tokenizer/],
    ['empty stop strings', { stopStrings: [''] }, /stopStrings is \[""\]/],
    ['a streamer without methods', { streamer: {} }, /streamer is \{\}; expected an object with the methods/],
    [
      'a streamer for two rows',
      { inputIds: [[1], [2]], streamer: { put() {}, end() {} } },
      /this batch has 2/,
    ],
    ['processors that are no functions', { logitsProcessors: [3] }, /logitsProcessors is \[3\].*function/],
    ['a bad passed configuration', { generationConfig: { topP: -1 } }, /generationConfig: topP is -1/],
    [
      'a misspelt passed configuration',
      { generationConfig: { inputIds: 1 } },
      /generationConfig: "inputIds" is not/,
    ],
  ])('%s', async (_, options, message) => {
    const small = new LookupModel(97);
    const promise = generate(small, {}, { inputIds: [PROMPT], ...options } as GenerateOptions);
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toBeInstanceOf(InputError);
    expect(small.requests).toEqual([]);
  });

  it('nothing over ids of generation_config.json that the model does not have', async () => {
    const defaults = { eosTokenId: [151645, 151643], padTokenId: 151643 };
    expect(await newTokens({}, defaults)).toEqual([model.greedy(PROMPT, 20)]);
  });
});
