/** Quantized golden models on a GPU against transformers on exactly dequantized weights. */
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { CausalLM, ImageTextToText, LoadOptions } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { argmax, logSumExp, maxDifference } from '../helpers/goldens.ts';
import {
  autoOf,
  QUANTIZED_FOLDER,
  QUANTIZED_LOGITS,
  QUANTIZED_MODELS,
  type QuantizedGolden,
  readQuantizedGolden,
} from '../helpers/quantized-goldens.ts';

const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];
/** Some with experts in two layers, so that bounded memory leaves some out. */
const BOUNDED = ['qwen3_moe_awq', 'qwen3_moe_ct_nvfp4', 'qwen3_moe_ct_w4a16'];
/** Steps of decoding, enough for codes to be read for one token. */
const TOKENS = 3;

/** SWITCHYARD_TEST_DEVICE=cuda (or cuda:N) runs the same cases on a card, with the library that build-cuda.mjs made. */
const card = process.env.SWITCHYARD_TEST_DEVICE as LoadOptions['device'];

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux').each(QUANTIZED_MODELS)(
  `%s on ${card ?? 'an emulated GPU'}`,
  (name) => {
    if (card === undefined) useEmulatedGpu();
    const golden = readQuantizedGolden(name);
    let model: CausalLM | ImageTextToText | undefined;
    const open = (more: LoadOptions = {}) => {
      const options = { dtype: 'float32', device: card ?? 'cuda', threads: 2, ...more } as const;
      return autoOf(golden).fromPretrained(join(QUANTIZED_FOLDER, name), options);
    };
    const load = async () => {
      model ??= await open();
      return model;
    };
    const { input_ids: ids, ...expected } = golden.prompts[0] as QuantizedGolden['prompts'][0];
    const decode = async (from: CausalLM | ImageTextToText, more = {}) => {
      const options = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
      const { sequences } = await from.generate({ inputIds: [ids], ...options, ...more });
      return sequences[0]?.slice(ids.length);
    };
    afterAll(() => model?.dispose());

    it.each(BACKENDS)('gives the logits of every position with %s', async (expertsImplementation) => {
      const loaded = await load();
      const { logits } = await loaded.forward({ inputIds: [ids], expertsImplementation });
      const vocab = logits.dims.at(-1) as number;
      const rows = ids.map((_, i) => (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab));
      expect(rows.map((row) => argmax(row))).toEqual(expected.argmax);
      for (const [i, row] of rows.entries())
        expect(Math.abs(logSumExp(row) - (expected.logsumexp[i] as number))).toBeLessThan(QUANTIZED_LOGITS);
      expect(maxDifference(rows.at(-1) as Float32Array, expected.logits_last)).toBeLessThan(QUANTIZED_LOGITS);
    });

    it('decodes to the same tokens', async () => {
      expect(await decode(await load())).toEqual(expected.greedy.tokens.slice(0, TOKENS));
    });

    it.runIf(BOUNDED.includes(name))('fetches the codes of experts on demand under maxMemory', async () => {
      const refusal: Error = await open({ maxMemory: 1000 }).catch((error) => error);
      const least = Number(refusal.message.match(/at least .* \((\d+) bytes\)/)?.[1]);
      const bounded = await open({ maxMemory: least });
      for (const expertsImplementation of BACKENDS)
        expect(await decode(bounded, { expertsImplementation })).toEqual(
          expected.greedy.tokens.slice(0, TOKENS),
        );
      expect(bounded.executionStats.residency?.fetches).toBeGreaterThan(0);
      await bounded.dispose();
    });
  },
);
