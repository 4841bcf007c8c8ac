/** Golden text models on a GPU against transformers. */
import { afterAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, type LoadOptions } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel, HYBRID_MODELS, maxDifference, TEXT_MODELS, textGolden } from '../helpers/goldens.ts';

/** Accepted differences to transformers in float32, as on the CPU. */
const LOGITS = 1e-4;
/** The norm behind the delta rule divides by numbers that may be small. */
const HYBRID_LOGITS = 5e-4;
/** Enough to record decode steps and replay them; the goldens have more. */
const TOKENS = 10;
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];

/** SWITCHYARD_TEST_DEVICE=cuda (or cuda:N) runs the same cases on a card, with the library that build-cuda.mjs made. */
const card = process.env.SWITCHYARD_TEST_DEVICE as LoadOptions['device'];

/** Of hybrid models one of each way to project: they take long. */
const NAMES = [...TEXT_MODELS, 'qwen3_next_h', 'qwen3_5_moe_text_i', 'qwen4_exp_k'];

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux').each(NAMES)(`%s on ${card ?? 'an emulated GPU'}`, (name) => {
  if (card === undefined) useEmulatedGpu();
  const { golden } = textGolden(name);
  const accepted = HYBRID_MODELS.includes(name) ? HYBRID_LOGITS : LOGITS;
  let model: CausalLM | undefined;
  const load = async () => {
    const options = { dtype: 'float32', device: card ?? 'cuda', threads: 2 } as const;
    model ??= await AutoModelForCausalLM.fromPretrained(goldenModel(name), options);
    return model;
  };
  afterAll(() => model?.dispose());

  it('gives the logits of transformers, switched from backend to backend', async () => {
    const loaded = await load();
    for (const [i, { input_ids: ids, logits_first8: first8 }] of golden.prompts.entries()) {
      const expertsImplementation = BACKENDS[i % BACKENDS.length] as string;
      const { logits } = await loaded.forward({ inputIds: [ids], expertsImplementation });
      const vocab = logits.dims[2] as number;
      for (const position of ids.keys()) {
        const row = (logits.data as Float32Array).slice(position * vocab, position * vocab + 8);
        expect(maxDifference(row, first8[position] as number[])).toBeLessThan(accepted);
      }
    }
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
