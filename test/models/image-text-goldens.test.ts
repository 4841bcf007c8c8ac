import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModel,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  type ImageTextToText,
  InputError,
  type Processor,
  type ProcessorOutput,
} from '../../src/index.ts';
import {
  argmax,
  type GoldenPrompt,
  goldenModel,
  logSumExp,
  maxDifference,
  readJson,
  readTensors,
} from '../helpers/goldens.ts';
import { HYBRID, PLAIN } from '../helpers/model-outputs.ts';

interface VisionPrompt extends GoldenPrompt {
  images: string[];
  text: string;
  mm_token_type_ids: number[];
}

interface VisionGolden {
  prompts: VisionPrompt[];
  batches: {
    rows: string[];
    input_ids: number[][];
    attention_mask: number[][];
    tokens: number[][];
  }[];
}

const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 12 };

/** Checkpoints, and accepted differences to transformers. */
const MODELS = [
  { name: 'qwen3_vl_moe_e', source: 'qwen3_vl_moe_e', accepted: PLAIN },
  { name: 'qwen3_vl_moe_e_resaved', source: 'qwen3_vl_moe_e', accepted: PLAIN },
  { name: 'qwen3_5_moe_j', source: 'qwen3_5_moe_j', accepted: HYBRID },
  { name: 'qwen3_5_moe_j_resaved', source: 'qwen3_5_moe_j', accepted: HYBRID },
  { name: 'qwen4_exp_k', source: 'qwen4_exp_k', accepted: PLAIN },
];

describe.each(MODELS)('$name', ({ name, source, accepted }) => {
  const folder = goldenModel(source);
  const golden = readJson<VisionGolden>(folder, 'expected.json');
  const tensors = readTensors(join(folder, 'expected.safetensors'));
  const find = (key: string) => tensors.get(key) as { shape: number[]; data: Float32Array } | undefined;
  const picture = (file: string) => join(folder, 'images', `${file}.png`);
  let model: ImageTextToText;
  let processor: Processor;

  beforeAll(async () => {
    model = await AutoModelForImageTextToText.fromPretrained(goldenModel(name), {
      dtype: 'float32',
      threads: 2,
      expertsImplementation: { text_config: 'grouped_mm', vision_config: 'eager' },
    });
    processor = await AutoProcessor.fromPretrained(folder);
  });
  afterAll(() => model.dispose());

  /** What goes into each layer, and the result of the final norm; none where a prompt's are not kept. */
  const hiddenStates = (prompt: string): Float32Array[] => {
    const hidden = find(`${prompt}.hidden`);
    if (!hidden) return [];
    const [count, positions, width] = hidden.shape as [number, number, number];
    const entry = (i: number) => hidden.data.subarray(i * positions * width, (i + 1) * positions * width);
    const final = find(`${prompt}.final`)?.data;
    const layers = final ? count - 1 : count - 2;
    return [...Array.from({ length: layers }, (_, i) => entry(i)), final ?? entry(count - 1)];
  };
  const inputsOf = (prompt: VisionPrompt) =>
    processor({ text: prompt.text, images: prompt.images.map(picture) });

  it('shows a backend for each backbone', () => {
    expect(model.getExpertsImplementation()).toEqual({
      '': 'grouped_mm',
      text_config: 'grouped_mm',
      vision_config: 'eager',
    });
  });

  describe.each(['eager', 'batched_mm', 'grouped_mm'])('with %s', (backend) => {
    beforeAll(() => model.setExpertsImplementation({ text_config: backend }));

    it.each(golden.prompts)('gives the logits of every position of $name', async (prompt) => {
      const { logits } = await model.forward(await inputsOf(prompt));
      const data = logits.data as Float32Array;
      const vocab = logits.dims[2] as number;
      for (const position of prompt.input_ids.keys()) {
        const row = data.subarray(position * vocab, (position + 1) * vocab);
        expect(maxDifference(row.slice(0, 8), prompt.logits_first8[position] as number[])).toBeLessThan(
          accepted.logits,
        );
        expect(argmax(row)).toBe(prompt.argmax[position]);
        expect(Math.abs(logSumExp(row) - (prompt.logsumexp[position] as number))).toBeLessThan(
          accepted.logits,
        );
      }
      const last = data.subarray(data.length - vocab);
      expect(maxDifference(last, find(`${prompt.name}.logits_last`)?.data as Float32Array)).toBeLessThan(
        accepted.logits,
      );
    });

    it.each(golden.prompts)('gives hidden states and routing of $name', async (prompt) => {
      const inputs = { ...(await inputsOf(prompt)), outputHiddenStates: true, outputRouterLogits: true };
      const output = await model.forward(inputs);
      const states = output.hiddenStates ?? [];
      for (const [i, expected] of hiddenStates(prompt.name).entries())
        expect(maxDifference(states[i]?.data as Float32Array, expected)).toBeLessThan(accepted.logits);
      const weights = (output.routerWeights ?? []).flatMap((t) => [...(t.data as Float32Array)]);
      expect(
        maxDifference(weights, find(`${prompt.name}.router_weights`)?.data as Float32Array),
      ).toBeLessThan(accepted.routerWeights);
    });

    it.each(golden.prompts)('decodes the same greedy tokens for $name', async (prompt) => {
      const inputs = await inputsOf(prompt);
      expect(inputs.inputIds).toEqual([prompt.input_ids]);
      const { sequences } = await model.generate({ ...inputs, ...GREEDY });
      expect(sequences[0]?.slice(prompt.input_ids.length)).toEqual(prompt.greedy.tokens);
    });

    it.each(golden.batches)('decodes a batch padded on the left: $rows', async (batch) => {
      const prompts = batch.rows.map(
        (row) => golden.prompts.find((prompt) => prompt.name === row) as VisionPrompt,
      );
      const inputs = await processor({
        text: prompts.map((prompt) => prompt.text),
        images: prompts.flatMap((prompt) => prompt.images.map(picture)),
        padding: true,
      });
      expect(inputs.inputIds).toEqual(batch.input_ids);
      const { sequences } = await model.generate({ ...inputs, ...GREEDY });
      expect(sequences.map((row) => row.slice(-12))).toEqual(batch.tokens);
    });
  });

  it('runs every sequence of one prompt over the same pictures', async () => {
    const inputs = await inputsOf(golden.prompts[1] as VisionPrompt);
    const options = { doSample: true, seed: 5, numReturnSequences: 3, maxNewTokens: 4, eosTokenId: [] };
    const together = await model.generate({ ...inputs, ...options });
    expect(together.sequences.length).toBe(3);
    expect(new Set(together.sequences.map(String)).size).toBeGreaterThan(1);
  });

  it.each([
    [[[1, 3, 8]], /imageGridThw\[0\] is \[1,3,8\]; expected .* multiples of 2/],
    [[[1, -6, -4]], /imageGridThw\[0\]/],
    [[[0.5, 12, 4]], /imageGridThw\[0\]/],
    [[['1', '6', '4']], /imageGridThw\[0\]/],
    [[[1n, 6n, 4n]], /imageGridThw\[0\]/],
    ['164', /imageGridThw is "164"; expected a list of grids/],
    [0, /imageGridThw is 0; expected a list of grids/],
    [null, /pixelValues and imageGridThw come together/],
  ])('refuses the grids %o by name', async (imageGridThw, message) => {
    const inputs = await inputsOf(golden.prompts[0] as VisionPrompt);
    const call = model.forward({ ...inputs, imageGridThw: imageGridThw as never });
    await expect(call).rejects.toThrow(InputError);
    await expect(call).rejects.toThrow(message);
  });

  it('refuses pixels of another kind or size by name', async () => {
    const inputs = (await inputsOf(golden.prompts[0] as VisionPrompt)) as Required<ProcessorOutput>;
    const { data, dims } = inputs.pixelValues;
    for (const pixelValues of [
      { data: Float64Array.from(data), dims },
      { data: data.subarray(1), dims },
      { data, dims: [dims[0], (dims[1] as number) + 1] },
    ])
      await expect(model.forward({ ...inputs, pixelValues: pixelValues as never })).rejects.toThrow(
        /pixelValues has .*; expected a Float32Array of \[patches, \d+\]/,
      );
  });

  it('names both counts where placeholders and pictures disagree', async () => {
    const [one, , two] = golden.prompts as [VisionPrompt, VisionPrompt, VisionPrompt];
    const { pixelValues, imageGridThw } = (await inputsOf(one)) as Required<ProcessorOutput>;
    const wanted = (prompt: VisionPrompt) => prompt.mm_token_type_ids.filter((type) => type === 1).length;
    await expect(model.forward({ pixelValues, imageGridThw, inputIds: [two.input_ids] })).rejects.toThrow(
      new RegExp(`${wanted(two)} image placeholders.*${wanted(one)}`),
    );
    await expect(model.forward({ inputIds: [one.input_ids] })).rejects.toThrow(
      new RegExp(`${wanted(one)} image placeholders.*stands for 0`),
    );
  });
});

describe('a decoder of fewer layers than the tower has features for', () => {
  it('takes those of the layers that it has', async () => {
    const folder = goldenModel('qwen3_vl_moe_e');
    const { text_config: text } = readJson<{ text_config: object }>(folder, 'config.json');
    const config = { text_config: { ...text, num_hidden_layers: 2 } };
    const options = { config, dtype: 'float32', threads: 2, onWarning: () => {} } as const;
    const model = await AutoModelForImageTextToText.fromPretrained(folder, options);
    const processor = await AutoProcessor.fromPretrained(folder);
    const [prompt] = readJson<VisionGolden>(folder, 'expected.json').prompts as [VisionPrompt];
    const images = prompt.images.map((name) => join(folder, 'images', `${name}.png`));
    const inputs = await processor({ text: prompt.text, images });
    const { hiddenStates } = await model.forward({ ...inputs, outputHiddenStates: true });
    const behindFirst = hiddenStates?.[1]?.data as Float32Array;
    const { data } = readTensors(join(folder, 'expected.safetensors')).get(`${prompt.name}.hidden`) ?? {};
    const expected = data?.subarray(behindFirst.length, 2 * behindFirst.length) as Float32Array;
    expect(maxDifference(behindFirst, expected)).toBeLessThan(PLAIN.logits);
    await model.dispose();
  });
});

describe('loading an image-text model through a text class', () => {
  it.each([AutoModel, AutoModelForCausalLM])('says which class to use', async (autoClass) => {
    await expect(autoClass.fromPretrained(goldenModel('qwen3_vl_moe_e'))).rejects.toThrow(
      /image-text model.*AutoModelForImageTextToText/,
    );
  });

  it('and the reverse', async () => {
    const text = goldenModel('qwen3_moe_c');
    await expect(AutoModelForImageTextToText.fromPretrained(text)).rejects.toThrow(/AutoModelForCausalLM/);
  });
});
