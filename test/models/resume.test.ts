/** A generation that is aborted, and goes on from where it was, gives what it would have given. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  type CausalLM,
  type CausalLMGenerateOptions,
  type GenerateOutput,
  type ImageTextToText,
  type Processor,
} from '../../src/index.ts';
import { goldenModel, textGolden } from '../helpers/goldens.ts';
import { type MediaPrompt, mediaGolden } from '../helpers/media-goldens.ts';

const NAMES = ['qwen2_moe_a', 'qwen3_moe_c', 'qwen3_next_g', 'qwen3_5_moe_j', 'qwen4_exp_k'];
const MEDIA_NAMES = ['qwen3_vl_moe_e', 'qwen3_5_moe_j', 'qwen4_exp_k', 'qwen3_omni_moe_l'];
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] };

type Inputs = Partial<CausalLMGenerateOptions> & {
  inputIds: readonly (readonly number[])[];
};

/** What a generation had when it was aborted after some tokens. */
async function aborted(
  model: CausalLM | ImageTextToText,
  inputs: Inputs,
  after: number,
  maxNewTokens: number,
): Promise<number[]> {
  const controller = new AbortController();
  let seen = 0;
  const streamer = {
    put: () => {
      // The first call brings the prompt.
      if (seen++ === after) controller.abort();
    },
    end: () => {},
  };
  const options = {
    ...inputs,
    ...GREEDY,
    maxNewTokens,
    streamer,
    signal: controller.signal,
  };
  const error = await model.generate(options).then(
    () => new Error('was not aborted'),
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ name: 'AbortError' });
  const { partial } = error as { partial: Pick<GenerateOutput, 'sequences'> };
  return partial.sequences[0] as number[];
}

describe.each(NAMES)('%s', (name) => {
  const { golden } = textGolden(name);
  const prompt = golden.prompts.at(-1) as (typeof golden.prompts)[number];
  const { length: count } = prompt.greedy.tokens;
  const whole = [...prompt.input_ids, ...prompt.greedy.tokens];
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32', threads: 2 });
  });
  afterAll(() => model.dispose());

  it.each([1, 2, 7])('goes on after %i tokens, and after as many again', async (after) => {
    const first = await aborted(model, { inputIds: [prompt.input_ids] }, after, count);
    expect(first.length).toBeGreaterThanOrEqual(prompt.input_ids.length + after);
    expect(first).toEqual(whole.slice(0, first.length));
    const second = await aborted(model, { inputIds: [first] }, after, whole.length - first.length);
    expect(second.length).toBeGreaterThan(first.length);
    const left = whole.length - second.length;
    const { sequences } = await model.generate({
      inputIds: [second],
      ...GREEDY,
      maxNewTokens: left,
    });
    expect(sequences).toEqual([whole]);
  });

  it('leaves rows that run beside an aborted one alone', async () => {
    const beside = model.generate({
      inputIds: [prompt.input_ids],
      ...GREEDY,
      maxNewTokens: count,
    });
    await aborted(model, { inputIds: [prompt.input_ids.slice(1)] }, 3, count);
    expect((await beside).sequences).toEqual([whole]);
  });
});

describe.each(MEDIA_NAMES)('%s, with what it sees and hears', (name) => {
  const { prompts, inputsOf } = mediaGolden(name);
  const seen = prompts.findLast(({ images }) => images.length > 0);
  const heard = prompts.findLast(({ sounds = [] }) => sounds.length > 0);
  let model: ImageTextToText;
  let processor: Processor;
  beforeAll(async () => {
    const options = { dtype: 'float32', threads: 2 } as const;
    model = await AutoModelForImageTextToText.fromPretrained(goldenModel(name), options);
    processor = await AutoProcessor.fromPretrained(goldenModel(name));
  });
  afterAll(() => model.dispose());

  it.each([seen, heard].filter((prompt) => prompt !== undefined))(
    'goes on from the middle of an answer to $name',
    async (prompt: MediaPrompt) => {
      const { inputIds: _, ...media } = await inputsOf(prompt, processor);
      const { tokens } = prompt.greedy;
      const whole = [...prompt.input_ids, ...tokens];
      const first = await aborted(model, { inputIds: [prompt.input_ids], ...media }, 3, tokens.length);
      expect(first.length).toBeGreaterThanOrEqual(prompt.input_ids.length + 3);
      expect(first).toEqual(whole.slice(0, first.length));
      const rest = {
        ...media,
        ...GREEDY,
        maxNewTokens: whole.length - first.length,
      };
      expect((await model.generate({ inputIds: [first], ...rest })).sequences).toEqual([whole]);
    },
  );
});
