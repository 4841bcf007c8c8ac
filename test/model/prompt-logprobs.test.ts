import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AbortError, AutoModelForCausalLM, type CausalLM, DEMO_MODEL, InputError } from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';

const NAME = 'qwen3_moe_c';
const golden = readJson(goldenModel(NAME), 'expected.json');
const prompts = golden.prompts.map(({ input_ids }) => input_ids);

let model: CausalLM;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { dtype: 'float32', threads: 2 });
});
afterAll(() => model.dispose());

/** log softmax of the logits of `forward`, in double precision: of each place, of each id. */
async function byForward(model: CausalLM, ids: readonly number[], experts = 'grouped_mm') {
  const { logits } = await model.forward({ inputIds: [ids], expertsImplementation: experts });
  const vocab = logits.dims[2] as number;
  return ids.map((_, place) => {
    const row = [...(logits.data as Float32Array).subarray(place * vocab, (place + 1) * vocab)];
    const sum = row.reduce((total, logit) => total + Math.exp(logit), 0);
    return row.map((logit) => logit - Math.log(sum));
  });
}

describe('promptLogprobs', () => {
  it.each(['eager', 'grouped_mm'])(
    'gives of each token what forward says after those before it, by %s',
    async (experts) => {
      for (const ids of prompts) {
        const expected = await byForward(model, ids, experts);
        const [scored] = await model.promptLogprobs({
          inputIds: [ids],
          top: 3,
          expertsImplementation: experts,
        });
        expect(scored?.[0]).toBeNull();
        expect(scored).toHaveLength(ids.length);
        for (const [i, token] of (scored ?? []).slice(1).entries()) {
          const row = expected[i] as number[];
          expect(token?.id).toBe(ids[i + 1]);
          expect(token?.logprob).toBeCloseTo(row[ids[i + 1] as number] as number, 6);
          expect(token?.top.map(({ logprob }) => logprob)).toEqual(
            row
              .toSorted((a, b) => b - a)
              .slice(0, 3)
              .map((logprob) => expect.closeTo(logprob, 6)),
          );
        }
      }
    },
  );

  it('takes rows of several lengths, and prompts of several passes', async () => {
    const demo = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, { dtype: 'float32', threads: 2 });
    // More than go into a pass.
    const long = Array.from({ length: 700 }, (_, i) => (i * 7 + (i >> 3)) % demo.vocabSize);
    const short = long.slice(0, 5);
    const padding = new Array<number>(695).fill(0);
    const [ofLong, ofShort] = await demo.promptLogprobs({
      inputIds: [long, [...padding, ...short]],
      attentionMask: [long.map(() => 1), [...padding, ...short.map(() => 1)]],
    });
    const expected = await byForward(demo, long);
    expect(ofLong?.map((token) => token?.id)).toEqual([undefined, ...long.slice(1)]);
    const close = (place: number) =>
      expect.closeTo(expected[place - 1]?.[long[place] as number] as number, 4);
    expect(ofLong?.slice(1).map((token) => token?.logprob)).toEqual(
      long.slice(1).map((_, i) => close(i + 1)),
    );
    expect(ofShort?.slice(1).map((token) => token?.logprob)).toEqual([1, 2, 3, 4].map(close));
    await demo.dispose();
  });

  it('refuses what it cannot take, and ends when it is told to', async () => {
    const inputIds = [[1, 2]];
    await expect(model.promptLogprobs({ inputIds, top: 21 })).rejects.toThrow(
      'promptLogprobs: top is 21; expected a whole number from 0 to 20',
    );
    await expect(model.promptLogprobs({ inputIds, logprobs: 1 } as never)).rejects.toThrow(InputError);
    await expect(model.promptLogprobs({ inputIds, signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
  });
});
