/** Tiny checkpoints in the layouts that publishers use, against transformers on exactly dequantized weights. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CausalLM, ExpertsInterface, type ImageTextToText, type Tensor } from '../../src/index.ts';
import { denseExperts } from '../conformance/dense-backend.ts';
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

/** Accepted differences in float32: README.md of the goldens. */
const PERPLEXITY = 1e-4;
const ROUTER_WEIGHTS = 1e-5;

describe.each(QUANTIZED_MODELS)('%s', (name) => {
  const golden = readQuantizedGolden(name);
  const warnings: string[] = [];
  let model: CausalLM | ImageTextToText;

  beforeAll(async () => {
    const onWarning = (message: string) => warnings.push(message);
    model = await autoOf(golden).fromPretrained(join(QUANTIZED_FOLDER, name), {
      dtype: 'float32',
      threads: 2,
      onWarning,
    });
  });
  afterAll(() => model.dispose());

  /** Logits of every position of a prompt. */
  async function rowsOf(inputIds: number[]): Promise<Float32Array[]> {
    const { logits } = await model.forward({ inputIds: [inputIds] });
    const vocab = logits.dims.at(-1) as number;
    return inputIds.map((_, i) => (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab));
  }

  it('loads without a word', () => {
    expect(warnings).toEqual([]);
  });

  describe.each(BACKENDS)('with %s', (backend) => {
    beforeAll(() => model.setExpertsImplementation(backend));

    it('gives the logits of every position', async () => {
      for (const prompt of golden.prompts) {
        const rows = await rowsOf(prompt.input_ids);
        expect(rows.map((row) => argmax(row))).toEqual(prompt.argmax);
        for (const [i, row] of rows.entries())
          expect(Math.abs(logSumExp(row) - (prompt.logsumexp[i] as number))).toBeLessThan(QUANTIZED_LOGITS);
        expect(maxDifference(rows.at(-1) as Float32Array, prompt.logits_last)).toBeLessThan(QUANTIZED_LOGITS);
      }
    });

    it('chooses the same experts and the same tokens', async () => {
      for (const prompt of golden.prompts) {
        const { routerIndices = [], routerWeights = [] } = await model.forward({
          inputIds: [prompt.input_ids],
          outputRouterLogits: true,
        });
        for (const [i, last] of prompt.router_last.entries()) {
          const k = last.indices.length;
          expect(Array.from((routerIndices[i] as Tensor).data.slice(-k), Number)).toEqual(last.indices);
          const weights = Array.from((routerWeights[i] as Tensor).data.slice(-k), Number);
          expect(maxDifference(weights, last.weights)).toBeLessThan(ROUTER_WEIGHTS);
        }
        const { sequences } = await model.generate({
          inputIds: [prompt.input_ids],
          ...{
            doSample: false,
            repetitionPenalty: 1,
            eosTokenId: [],
            maxNewTokens: prompt.greedy.tokens.length,
          },
        });
        expect(sequences).toEqual([[...prompt.input_ids, ...prompt.greedy.tokens]]);
      }
    });
  });

  it('runs on a backend of ONNX nodes, which gets weights dequantized, or says why not', async () => {
    ExpertsInterface.register('dense', denseExperts);
    model.setExpertsImplementation('dense');
    try {
      const [prompt] = golden.prompts as [QuantizedGolden['prompts'][0]];
      const running = rowsOf(prompt.input_ids);
      if (name === 'qwen3_vl_moe_fp8')
        await expect(running).rejects.toThrow(/gate_up_proj is a quantized stack/);
      else
        expect(maxDifference((await running).at(-1) as Float32Array, prompt.logits_last)).toBeLessThan(
          QUANTIZED_LOGITS,
        );
    } finally {
      model.setExpertsImplementation('grouped_mm');
      ExpertsInterface.unregister('dense');
    }
  });

  it('has the same perplexity', async () => {
    const { input_ids: ids, perplexity } = golden.perplexity;
    const rows = await rowsOf(ids);
    const next = ids.slice(1);
    const loss = next.reduce((sum, id, i) => {
      const row = rows[i] as Float32Array;
      return sum + logSumExp(row) - (row[id] as number);
    }, 0);
    expect(Math.abs(Math.exp(loss / next.length) / perplexity - 1)).toBeLessThan(PERPLEXITY);
  });
});
