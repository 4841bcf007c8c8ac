import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { generate, model, newTokens, PROMPT, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

describe('greedy generation', () => {
  it('takes the likeliest token', async () => {
    const { sequences, finishReasons, stats } = await run({ maxNewTokens: 20 });
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
  it('without a limit it is 256 new tokens, and the model is told once it has cut', async () => {
    const warnings: string[] = [];
    const talkative = new LookupModel(97);
    Object.assign(talkative, { warnOnce: (message: string) => warnings.push(message) });
    const continued = async (options: object, defaults = {}) => {
      const { sequences } = await generate(talkative, defaults, { inputIds: [PROMPT], ...options });
      return (sequences[0]?.length ?? 0) - 3;
    };
    expect(await continued({})).toBe(256);
    expect(warnings.splice(0)).toEqual([
      expect.stringMatching(/after 256 new tokens.*maxNewTokens \(-n\) sets another/),
    ]);
    expect(await continued({ maxNewTokens: 256 })).toBe(256);
    expect(await continued({}, { maxLength: 259 })).toBe(256);
    expect(await continued({ eosTokenId: model.greedy(PROMPT, 3)[2] as number })).toBeLessThan(256);
    expect(warnings).toEqual([]);
  });

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

  it.each([
    [
      { minNewTokens: 9, maxNewTokens: 8 },
      'minNewTokens is 9, but maxNewTokens is 8. Lower minNewTokens, or raise that',
    ],
    [
      { minNewTokens: 9, generationConfig: { maxNewTokens: 8 } },
      'minNewTokens is 9, but maxNewTokens is 8. Lower',
    ],
    [
      { minNewTokens: 9, maxLength: 11 },
      'minNewTokens is 9, but maxLength is 11, which leaves 8 new tokens after a prompt of 3. Lower minNewTokens, or raise maxLength',
    ],
    [
      { minLength: 12, maxNewTokens: 8 },
      'minLength is 12, but a prompt has 3 tokens and maxNewTokens is 8. Lower',
    ],
    [
      { minLength: 12, maxLength: 11 },
      'minLength is 12, but a prompt has 3 tokens and maxLength is 11, which leaves 8',
    ],
  ])('what no row can have at least is refused: %o', async (options, message) => {
    const refused = run(options);
    await expect(refused).rejects.toBeInstanceOf(InputError);
    await expect(refused).rejects.toThrow(message);
    expect(model.open).toBe(0);
  });

  it('so where the model or nobody sets the limit, and where the context does', async () => {
    const ask = (defaults: object, contextLength = 1000) =>
      generate(new LookupModel(97, { contextLength }), defaults, { inputIds: [PROMPT], minNewTokens: 300 });
    await expect(ask({})).rejects.toThrow(
      'minNewTokens is 300, but maxNewTokens is 256 where nobody sets it.',
    );
    await expect(ask({ maxNewTokens: 20 })).rejects.toThrow('minNewTokens is 300, but maxNewTokens is 20.');
    await expect(ask({ maxNewTokens: 400 }, 30)).rejects.toThrow(
      "minNewTokens is 300, but the model's context holds 30, which leaves 27 new tokens after a prompt of 3. Lower minNewTokens, or shorten the prompt",
    );
  });

  it('a minimum of generation_config.json yields to a limit of the call', async () => {
    for (const minimum of [{ minNewTokens: 9 }, { minLength: 12 }])
      expect(await newTokens({ maxNewTokens: 4 }, minimum)).toEqual(await newTokens({ maxNewTokens: 4 }));
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
