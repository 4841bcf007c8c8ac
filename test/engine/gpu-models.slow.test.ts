/** Golden text models on a GPU against transformers. */
import { afterAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, type LoadOptions } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import {
  type GoldenModel,
  goldenModel,
  HYBRID_MODELS,
  maxDifference,
  TEXT_MODELS,
  textGolden,
} from '../helpers/goldens.ts';
import {
  expectSameChoices,
  HYBRID,
  PERPLEXITY,
  PLAIN,
  perplexityOf,
  valuesOf,
} from '../helpers/model-outputs.ts';

/** Enough to record decode steps and replay them; the goldens have more. */
const TOKENS = 10;
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];

/** SWITCHYARD_TEST_DEVICE=cuda (or cuda:N) runs the same cases on a card, with the library that build-cuda.mjs made. */
const card = process.env.SWITCHYARD_TEST_DEVICE as LoadOptions['device'];

/** Of hybrid models one of each way to project: they take long. */
const NAMES = [...TEXT_MODELS, 'qwen3_next_h', 'qwen3_5_moe_text_i', 'qwen4_exp_k'];
/** Those of which is known how far transformers is off in bfloat16: of Qwen3-Next another one than above. */
const ROUNDED = [...NAMES, 'qwen3_next_g'].filter((name) => textGolden(name).golden.bf16 !== undefined);

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux').each(NAMES)(`%s on ${card ?? 'an emulated GPU'}`, (name) => {
  if (card === undefined) useEmulatedGpu();
  const { golden, tensor } = textGolden(name);
  const accepted = HYBRID_MODELS.includes(name) ? HYBRID : PLAIN;
  let model: CausalLM | undefined;
  const load = async () => {
    const options = { dtype: 'float32', device: card ?? 'cuda', threads: 2 } as const;
    model ??= await AutoModelForCausalLM.fromPretrained(goldenModel(name), options);
    return model;
  };
  afterAll(() => model?.dispose());

  it('gives the logits and the routing of transformers, switched from backend to backend', async () => {
    const loaded = await load();
    for (const [i, { name: prompt, input_ids: ids, logits_first8: first8 }] of golden.prompts.entries()) {
      const expertsImplementation = BACKENDS[i % BACKENDS.length] as string;
      const asked = { inputIds: [ids], outputRouterLogits: true, expertsImplementation };
      const { logits, routerIndices, routerWeights } = await loaded.forward(asked);
      const vocab = logits.dims[2] as number;
      for (const position of ids.keys()) {
        const row = (logits.data as Float32Array).slice(position * vocab, position * vocab + 8);
        expect(maxDifference(row, first8[position] as number[])).toBeLessThan(accepted.logits);
      }
      const [indices, weights] = [tensor(`${prompt}.router_indices`), tensor(`${prompt}.router_weights`)];
      if (!indices || !weights) throw new Error(`${name} has no routing of ${prompt}`);
      expect(maxDifference(valuesOf(routerWeights), weights.data)).toBeLessThan(accepted.routerWeights);
      expectSameChoices(valuesOf(routerIndices), indices.data, weights.data, weights.shape[2] as number);
    }
  });

  it.skipIf(golden.perplexity === undefined)('gives the perplexity of transformers to 4 digits', async () => {
    const { input_ids: ids, perplexity } = golden.perplexity as Required<GoldenModel>['perplexity'];
    const { logits } = await (await load()).forward({ inputIds: [ids] });
    expect(Math.abs(perplexityOf(logits, ids) / perplexity - 1)).toBeLessThan(PERPLEXITY);
  });

  it.skipIf(golden.batch === undefined)('decodes a batch padded on the left to the same tokens', async () => {
    const { batch } = golden;
    if (batch === undefined) return;
    const { input_ids: inputIds, attention_mask: attentionMask, tokens } = batch;
    const { sequences, stats } = await (await load()).generate({ inputIds, attentionMask, ...GREEDY });
    expect(sequences.map((row) => row.slice(-TOKENS))).toEqual(tokens.map((row) => row.slice(0, TOKENS)));
    // Decode steps may go to another backend than the prompt.
    expect(stats.expertsCalls.grouped_mm).toBeGreaterThan(0);
  });
});

describe.skipIf(process.platform !== 'linux').each(ROUNDED)(
  `%s on ${card ?? 'an emulated GPU'}, in half precision`,
  (name) => {
    if (card === undefined) useEmulatedGpu();
    const { golden } = textGolden(name);
    const prompts = golden.prompts.slice(0, 3);

    /** Of every position of each prompt. */
    async function logitsIn(dtype: 'float32' | 'bfloat16' | 'float16'): Promise<Float32Array[]> {
      const options = { dtype, device: card ?? 'cuda', threads: 2 } as const;
      const model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), options);
      const all: Float32Array[] = [];
      for (const { input_ids: ids } of prompts)
        all.push((await model.forward({ inputIds: [ids] })).logits.data as Float32Array);
      await model.dispose();
      return all;
    }

    it('is on average as near in bfloat16 and float16 as transformers is in bfloat16', async () => {
      const exact = await logitsIn('float32');
      for (const dtype of ['bfloat16', 'float16'] as const) {
        const near = await logitsIn(dtype);
        for (const [i, right] of exact.entries()) {
          const mean = meanDifference(right, near[i] as Float32Array);
          const theirs = golden.bf16?.prompts[i]?.mean_abs_diff_all as number;
          expect(mean, `${dtype}, ${prompts[i]?.name}`).toBeLessThan(1.5 * theirs + 0.02);
          expect(mean).toBeGreaterThan(0);
        }
      }
    });
  },
);

function meanDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, at) => sum + Math.abs(x - (b[at] as number)), 0) / a.length;
}
