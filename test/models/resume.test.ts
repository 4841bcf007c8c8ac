/** A generation that is aborted, and goes on from where it was, gives what it would have given. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, type GenerateOutput } from '../../src/index.ts';
import { goldenModel, textGolden } from '../helpers/goldens.ts';

const NAMES = ['qwen2_moe_a', 'qwen3_moe_c', 'qwen3_next_g', 'qwen3_5_moe_j', 'qwen4_exp_k'];

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

  /** What a generation had when it was aborted after some tokens. */
  async function aborted(inputIds: number[], after: number, maxNewTokens: number): Promise<number[]> {
    const controller = new AbortController();
    let seen = 0;
    const streamer = {
      put: () => {
        // The first call brings the prompt.
        if (seen++ === after) controller.abort();
      },
      end: () => {},
    };
    const running = model.generate({
      ...{ inputIds: [inputIds], doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens },
      ...{ streamer, signal: controller.signal },
    });
    const error = await running.then(
      () => new Error('was not aborted'),
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ name: 'AbortError' });
    const { partial } = error as { partial: Pick<GenerateOutput, 'sequences'> };
    return partial.sequences[0] as number[];
  }

  it.each([1, 2, 7])('goes on after %i tokens, and after as many again', async (after) => {
    const first = await aborted(prompt.input_ids, after, count);
    expect(first.length).toBeGreaterThanOrEqual(prompt.input_ids.length + after);
    expect(first).toEqual(whole.slice(0, first.length));
    const second = await aborted(first, after, whole.length - first.length);
    expect(second.length).toBeGreaterThan(first.length);
    const { sequences } = await model.generate({
      ...{ inputIds: [second], doSample: false, repetitionPenalty: 1, eosTokenId: [] },
      maxNewTokens: whole.length - second.length,
    });
    expect(sequences).toEqual([whole]);
  });

  it('leaves rows that run beside an aborted one alone', async () => {
    const greedy = { inputIds: [prompt.input_ids], doSample: false, repetitionPenalty: 1, eosTokenId: [] };
    const beside = model.generate({ ...greedy, maxNewTokens: count });
    await aborted(prompt.input_ids.slice(1), 3, count);
    expect((await beside).sequences).toEqual([whole]);
  });
});
