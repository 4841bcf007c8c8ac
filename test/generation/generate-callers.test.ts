import { describe, expect, it } from 'vitest';
import { AbortError, InputError } from '../../src/errors.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { GenerationAbortError } from '../../src/generation/output.ts';
import type { StoppingCriterion } from '../../src/generation/stopping-criteria.ts';
import type { Streamer } from '../../src/generation/streamers.ts';
import { generate, model, newTokens, PROMPT, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

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
      // Its rejection is nobody's and must not end the process.
      { stoppingCriteria: [async () => Promise.reject(new Error('late'))] as never },
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
      'ids that are none, of a function',
      { prefixAllowedTokensFn: () => [5, 97] },
      /prefixAllowedTokensFn returned for row 0 is \[5,97\]; expected a list of token ids below 97/,
    ],
    [
      'negative ids',
      { prefixAllowedTokensFn: () => [-1], numBeams: 2 },
      /is \[-1\]; expected a list of token ids/,
    ],
    [
      'infinite scores',
      { logitsProcessors: [(_, scores) => void scores.fill(Infinity)], doSample: true },
      /A score is infinite.*removeInvalidValues: true/,
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

  const constraint = (changes: object) => () => ({
    allows: () => true,
    advance: () => {},
    isComplete: false,
    ...changes,
  });
  const late = async () => Promise.reject(new Error('late'));
  it.each<[string, unknown, RegExp]>([
    ['allows', constraint({ allows: late }), /constraint: allows gave a promise/],
    ['advance', constraint({ advance: late }), /constraint: advance gave a promise/],
    ['isComplete', constraint({ isComplete: Promise.resolve(false) }), /isComplete gave a promise/],
    ['allowed, late', constraint({ allows: () => false, allowed: late }), /allowed gave a promise/],
    [
      'no list',
      constraint({ allows: () => false, allowed: () => 5 }),
      /allowed returned is 5; expected a list/,
    ],
    [
      'no end',
      constraint({
        allows: () => false,
        *allowed() {
          for (;;) yield 1;
        },
      }),
      /allowed has named 777 tokens of 97 and goes on/,
    ],
    ['draft, late', constraint({ draft: late }), /draft gave a promise/],
    [
      'draft, no ids',
      constraint({ draft: () => [3, 97] }),
      /draft returned is \[3,97\]; expected a list of ids/,
    ],
    ['late', late, /What constraint returned for row 0 is a promise;/],
    ['nothing', () => undefined, /What constraint returned for row 0 is undefined/],
    ['half of it', () => ({ allows: () => true }), /the methods allows and advance/],
  ])('is refused of a constraint whose answer is none: %s', async (_, own, message) => {
    await expect(run({ maxNewTokens: 50, constraint: own as never })).rejects.toThrow(message);
    expect(model.open).toBe(0);
  });

  it('does not reach the list of criteria', async () => {
    const stoppingCriteria: StoppingCriterion[] = [
      () => {
        stoppingCriteria.push(() => true);
        return false;
      },
    ];
    expect((await run({ maxNewTokens: 4, stoppingCriteria })).stats.newTokens).toBe(4);
  });

  it('is refused where a streamer has no method of that name', async () => {
    const streamer = { put() {}, end() {}, begin: 5 } as never;
    await expect(run({ streamer })).rejects.toThrow('streamer: begin is 5; expected a method, or nothing');
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
    ['a name of the command line', { experts: 'eager' }, /Did you mean "expertsImplementation"/],
    ['a name of the AI SDK', { maxOutputTokens: 5 }, /Did you mean "maxNewTokens"/],
    ['a name over HTTP', { max_completion_tokens: 5 }, /Did you mean "maxNewTokens"/],
    ['a name that every object has', { constructor: 5 }, /"constructor" is not an option; options are/],
    ['an unknown option', { zzzzzzzz: 5 }, /not an option; options are .*attentionMask/],
    [
      'what transformers has and we do not',
      { outputScores: true },
      /"outputScores" is an option of transformers .*logprobs/,
    ],
    [
      'the same in its own spelling',
      { penalty_alpha: 0.6 },
      /"penalty_alpha" is .*there is no contrastive search/,
    ],
    ['a function as streamer without a tokenizer', { streamer: () => {} }, /needs the tokenizer/],
    ['a bias for what is no id', { logitBias: { the: 1 } }, /logitBias is .*by token id/],
    ['a bias outside the vocabulary', { logitBias: { 97: 1 } }, /logitBias has the id 97/],
    [
      'beams that draw',
      { numBeams: 4, doSample: true },
      /numBeams is 4, which excludes doSample. Set doSample: false/,
    ],
    [
      'more sequences than beams',
      { numBeams: 2, numReturnSequences: 3 },
      /there are 2 beams. Raise numBeams/,
    ],
    ['log-probabilities of beams', { numBeams: 2, logprobs: 1 }, /excludes logprobs/],
    ['beams without end', { numBeams: 1000 }, /numBeams is 1000; expected a whole number from 1 to 256/],
    ['beams that stream', { numBeams: 2, streamer: { put() {}, end() {} } }, /beams change their minds/],
    ['beams with a constraint', { numBeams: 2, constraint: () => ({}) as never }, /excludes a constraint/],
    ['an end token outside the vocabulary', { eosTokenId: [1, 97] }, /eosTokenId has the id 97/],
    ['bad words outside the vocabulary', { badWordsIds: [[1, 200]] }, /badWordsIds has the id 200/],
    ['an empty bad word', { badWordsIds: [[]] }, /badWordsIds is \[\[\]\]/],
    ['a maxLength within the prompt', { maxLength: 3 }, /maxLength is 3, but the prompt alone has 3/],
    ['stop strings without a tokenizer', { stopStrings: ['x'] }, /pass it as the option tokenizer/],
    ['empty stop strings', { stopStrings: [''] }, /stopStrings is \[""\]/],
    [
      'a streamer without methods',
      { streamer: {} },
      /streamer is \{\}; expected a function that takes text, or an object with the methods/,
    ],
    [
      'a streamer for two rows',
      { inputIds: [[1], [2]], streamer: { put() {}, end() {} } },
      /this batch has 2/,
    ],
    ['processors that are no functions', { logitsProcessors: [3] }, /logitsProcessors is \[3\].*function/],
    [
      'a number for a passed configuration',
      { generationConfig: 5 },
      /generationConfig is 5; expected an object/,
    ],
    [
      'a promise of a configuration',
      { generationConfig: Promise.resolve({ topK: 1 }) },
      /generationConfig is a promise; expected an object/,
    ],
    [
      'a map for a configuration',
      { generationConfig: new Map() },
      /generationConfig is .*; expected an object/,
    ],
    ['something else for the tokenizer', { tokenizer: 'x' }, /tokenizer is "x"; expected a tokenizer/],
    [
      'sequences without measure',
      { doSample: true, numReturnSequences: 1e9 },
      /numReturnSequences is 1000000000/,
    ],
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
