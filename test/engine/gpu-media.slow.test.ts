import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  type ImageTextToText,
  type LoadOptions,
  type Processor,
} from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { argmax, goldenModel, maxDifference } from '../helpers/goldens.ts';
import { mediaGolden } from '../helpers/media-goldens.ts';

/** Accepted differences to transformers in float32, as on the CPU. */
const LOGITS = 1e-4;
const TOKENS = 2;
const BACKENDS = ['grouped_mm', 'eager', 'batched_mm'];
/** As `gpu-models.slow.test.ts` has it. */
const card = process.env.SWITCHYARD_TEST_DEVICE as LoadOptions['device'];

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux').each(['qwen4_exp_k', 'qwen3_omni_moe_l'])(
  `%s on ${card ?? 'an emulated GPU'}`,
  (name) => {
    // The pictures of Qwen4 are those of other models; one takes long.
    const count = name === 'qwen4_exp_k' ? 1 : undefined;
    if (card === undefined) useEmulatedGpu();
    const { prompts, inputsOf } = mediaGolden(name);
    const media = prompts
      .filter(({ images, sounds = [] }) => images.length + sounds.length > 0)
      .slice(0, count);
    let model: ImageTextToText;
    let processor: Processor;
    beforeAll(async () => {
      model = await AutoModelForImageTextToText.fromPretrained(goldenModel(name), {
        ...{ dtype: 'float32', device: card ?? 'cuda', threads: 2 },
      });
      processor = await AutoProcessor.fromPretrained(goldenModel(name));
    });
    afterAll(() => model?.dispose());

    it.each(media)('sees and hears as transformers does: $name', async (prompt) => {
      const inputs = await inputsOf(prompt, processor);
      const expertsImplementation = BACKENDS[prompts.indexOf(prompt) % BACKENDS.length] as string;
      const { logits } = await model.forward({ ...inputs, expertsImplementation });
      const vocab = logits.dims[2] as number;
      for (const position of prompt.input_ids.keys()) {
        const row = (logits.data as Float32Array).subarray(position * vocab, (position + 1) * vocab);
        expect(maxDifference(row.slice(0, 8), prompt.logits_first8[position] as number[])).toBeLessThan(
          LOGITS,
        );
        expect(argmax(row)).toBe(prompt.argmax[position]);
      }
      const greedy = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
      const { sequences } = await model.generate({ ...inputs, ...greedy, expertsImplementation });
      expect(sequences[0]?.slice(prompt.input_ids.length)).toEqual(prompt.greedy.tokens.slice(0, TOKENS));
    });
  },
);
