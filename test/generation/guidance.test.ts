/** Guidance by a negative prompt, as transformers computes it, and a budget for reasoning. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ThinkingBudget } from '../../src/generation/thinking-budget.ts';
import { AutoModelForCausalLM, AutoTokenizer, type CausalLM, type Tokenizer } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const DEMO = join(import.meta.dirname, '../../configs/demo-model');
const PROMPT = Array.from({ length: 12 }, (_, i) => (31 + i * 7) % 100);
const NEGATIVE = [[5, 9, 14, 3]];
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 10 };

/** By transformers 5.18, float32: `generate(guidance_scale, negative_prompt_ids)`. */
const GOLDENS = [
  ['qwen3_moe_c', 1.5, undefined, [819, 986, 862, 78, 930, 78, 930, 185, 467, 190]],
  ['qwen3_moe_c', 3, NEGATIVE, [819, 604, 717, 271, 365, 16, 383, 867, 717, 0]],
  ['qwen3_moe_c', 0.5, NEGATIVE, [555, 327, 591, 782, 1002, 431, 146, 433, 468, 654]],
  ['qwen3_next_g', 1.5, undefined, [332, 218, 105, 202, 267, 231, 289, 253, 197, 106]],
  ['qwen3_next_g', 3, NEGATIVE, [239, 199, 248, 118, 468, 384, 188, 359, 510, 204]],
  ['qwen3_next_g', 0.5, NEGATIVE, [321, 97, 259, 288, 241, 79, 347, 145, 237, 320]],
] as const;

describe('guidance', () => {
  const models = new Map<string, CausalLM>();
  beforeAll(async () => {
    for (const name of ['qwen3_moe_c', 'qwen3_next_g'])
      models.set(
        name,
        await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32', threads: 2 }),
      );
  });
  afterAll(() => Promise.all([...models.values()].map((model) => model.dispose())));
  const generate = (name: string, options: object) =>
    (models.get(name) as CausalLM).generate({ inputIds: [PROMPT], ...GREEDY, ...options });

  it.each(GOLDENS)(
    'of %s by %d (negative prompt: %j) is that of transformers',
    async (name, scale, ids, golden) => {
      const { sequences } = await generate(name, {
        guidanceScale: scale,
        ...(ids && { negativePromptIds: ids }),
      });
      expect(sequences[0]?.slice(PROMPT.length)).toEqual(golden);
    },
  );

  it('of several rows is that of each, also of rows that end before others', async () => {
    const options = { guidanceScale: 2, negativePromptIds: NEGATIVE };
    const other = [...PROMPT].reverse();
    const rows = [PROMPT, other, PROMPT.map((id) => id + 1)];
    const alone = [];
    for (const row of rows)
      alone.push((await generate('qwen3_moe_c', { inputIds: [row], ...options })).sequences[0]);
    expect((await generate('qwen3_moe_c', { inputIds: rows, ...options })).sequences).toEqual(alone);
    // The first row ends at its third token.
    const eosTokenId = alone[0]?.[PROMPT.length + 2] as number;
    const ended = await generate('qwen3_moe_c', { inputIds: rows, ...options, eosTokenId });
    expect(ended.sequences[0]).toEqual(alone[0]?.slice(0, PROMPT.length + 3));
    expect(ended.sequences[1]).toEqual(
      (await generate('qwen3_moe_c', { inputIds: [other], ...options, eosTokenId })).sequences[0],
    );
    const drawn = { ...options, doSample: true, seed: 4, numReturnSequences: 2 };
    const two = await generate('qwen3_moe_c', drawn);
    expect(two.sequences).toHaveLength(2);
    expect((await generate('qwen3_moe_c', drawn)).sequences).toEqual(two.sequences);
  });

  it('takes the negative prompt as text, or as a message where the prompt is a conversation', async () => {
    await using model = await AutoModelForCausalLM.fromPretrained(DEMO);
    const tokenizer = await model.tokenizer();
    const options = { ...GREEDY, guidanceScale: 3 };
    const texts = ['Tell me nothing', 'In the end'];
    const given = await model.generate({
      ...{
        ...options,
        prompt: ['Once upon', 'In the beginning'],
        negativePrompt: texts,
      },
    });
    const ids = await model.generate({
      ...{ ...options, prompt: ['Once upon', 'In the beginning'] },
      negativePromptIds: texts.map((text) => tokenizer.encode(text)),
    });
    expect(given.sequences).toEqual(ids.sequences);
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ];
    const answer = await model.generate({
      ...options,
      messages,
      negativePrompt: 'Goodbye',
    });
    const rendered = tokenizer.applyChatTemplate([{ role: 'user', content: 'Goodbye' }], {
      addGenerationPrompt: true,
    });
    const same = await model.generate({
      ...options,
      messages,
      negativePromptIds: rendered.inputIds,
    });
    expect(answer.sequences).toEqual(same.sequences);
    const refuse = (more: object, message: RegExp) =>
      expect(
        model.generate({
          ...GREEDY,
          prompt: 'a',
          negativePrompt: 'b',
          ...more,
        }),
      ).rejects.toThrow(message);
    await refuse({}, /negativePrompt has no effect without guidanceScale/);
    await refuse({ guidanceScale: 2, negativePromptIds: [[1]] }, /exclude each other/);
    await refuse({ guidanceScale: 2, negativePrompt: '' }, /negativePrompt is ""; expected a text/);
    await refuse(
      { guidanceScale: 2, negativePrompt: 'a '.repeat(5000) },
      /^negativePrompt: row 0 has \d+ tokens, more than the context/,
    );
  });

  it('refuses what has no effect or cannot be, by name', async () => {
    const refuse = (options: object, message: RegExp) =>
      expect(generate('qwen3_moe_c', options)).rejects.toThrow(message);
    await refuse({ negativePromptIds: NEGATIVE }, /negativePromptIds have no effect without guidanceScale/);
    await refuse({ guidanceScale: -1 }, /guidanceScale is -1; expected a number of at least 0/);
    await refuse({ guidanceScale: 2, numBeams: 2 }, /guidanceScale excludes numBeams/);
    await refuse(
      { guidanceScale: 2, promptLookupNumTokens: 2 },
      /guidanceScale excludes promptLookupNumTokens/,
    );
    await refuse({ guidanceScale: 2, logprobs: 1 }, /guidanceScale excludes logprobs/);
    await refuse({ guidanceScale: 2, negativePromptIds: 'no' }, /^negativePromptIds is "no"/);
    await refuse(
      { guidanceScale: 2, negativePromptIds: [[1], [5, 99999]] },
      /^negativePromptIds: row 1, position 1 is 99999/,
    );
    await refuse({ guidanceScale: 2, negativePromptIds: [[1], []] }, /^negativePromptIds: row 1 is empty/);
    await refuse(
      { guidanceScale: 2, negativePromptIds: [Array(1e4).fill(1)] },
      /^negativePromptIds: row 0 has 10000 tokens, more than the context/,
    );
    await refuse({ guidanceScale: 2, negativePromptIds: [[1], [2]] }, /2 negative prompts, but 1 prompts/);
  });
});

const TAGS = { '<think>': 300, '</think>': 301 };

/** The demo's tokenizer, whose model does not reason, as if two of its tokens were the tags of reasoning. */
function withTags(tokenizer: Tokenizer): Tokenizer {
  const tokenToId = (token: string) => TAGS[token as keyof typeof TAGS] ?? tokenizer.tokenToId(token);
  return new Proxy(tokenizer, {
    get: (target, name) => {
      const value = name === 'tokenToId' ? tokenToId : Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('a budget for reasoning', () => {
  let model: CausalLM;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const [loaded, plain] = await Promise.all([
      AutoModelForCausalLM.fromPretrained(DEMO),
      AutoTokenizer.fromPretrained(DEMO),
    ]);
    model = loaded;
    tokenizer = withTags(plain);
  });
  afterAll(() => model.dispose());

  it('closes it once it is used up, and what follows is chosen again', async () => {
    const close = tokenizer.tokenToId('</think>') as number;
    const ids = tokenizer.encode('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n');
    const options = { inputIds: [ids], maxNewTokens: 24, eosTokenId: [], doSample: false, tokenizer };
    const run = async (more: object) =>
      (await model.generate({ ...options, ...more })).sequences[0]?.slice(ids.length);
    const free = (await run({})) as number[];
    expect(free.slice(0, 6)).not.toContain(close);
    for (const thinkingBudget of [0, 1, 6]) {
      const held = (await run({ thinkingBudget })) as number[];
      expect(held.slice(0, thinkingBudget + 1)).toEqual([...free.slice(0, thinkingBudget), close]);
      expect(held).toHaveLength(24);
      const after = await model.generate({
        ...options,
        inputIds: [[...ids, ...held.slice(0, thinkingBudget + 1)]],
      });
      expect(after.sequences[0]?.slice(ids.length, ids.length + 24)).toEqual(held);
    }
    const lookup = await run({ thinkingBudget: 6, promptLookupNumTokens: 3 });
    expect(lookup).toEqual(await run({ thinkingBudget: 6 }));
    // A prompt that has closed it already.
    const closed = tokenizer.encode('<|im_start|>assistant\n<think>\n\n</think>\n\n');
    const given = { ...options, inputIds: [closed] };
    expect((await model.generate({ ...given, thinkingBudget: 2 })).sequences).toEqual(
      (await model.generate(given)).sequences,
    );
  });

  it('counts from the tag that opens it, once', () => {
    const budget = new ThinkingBudget({ open: 1, close: 2 }, 2, 'before');
    for (const [token, forced] of [
      [5, undefined],
      [1, undefined],
      [5, undefined],
      [6, 2],
      [2, undefined],
      [1, undefined],
      [5, undefined],
      [5, undefined],
    ] as const) {
      budget.push(token);
      expect(budget.forced).toBe(forced);
    }
    const none = new ThinkingBudget({ open: 1, close: 2 }, 0, 'none');
    none.push(1);
    expect(none.forced).toBeUndefined();
  });

  it('is refused where it cannot be', async () => {
    await expect(model.generate({ prompt: 'a', thinkingBudget: 2 })).rejects.toThrow(
      /the tokenizer has no tokens that open and close reasoning/,
    );
    const beams = model.generate({
      prompt: 'a',
      tokenizer,
      thinkingBudget: 2,
      numBeams: 2,
      doSample: false,
      maxNewTokens: 3,
    });
    await expect(beams).rejects.toThrow(/numBeams excludes thinkingBudget/);
    await expect(model.generate({ prompt: 'a', thinkingBudget: -1 })).rejects.toThrow(/thinkingBudget is -1/);
  });
});
