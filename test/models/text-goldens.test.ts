import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModel, AutoModelForCausalLM, type CausalLM } from '../../src/index.ts';
import {
  argmax,
  type GoldenModel,
  goldenModel,
  HYBRID_MODELS,
  logSumExp,
  maxDifference,
  TEXT_MODELS,
  textGolden,
} from '../helpers/goldens.ts';
import {
  expectSameChoices,
  firstChangedRouting,
  HYBRID,
  PERPLEXITY,
  PLAIN,
  perplexityOf,
  valuesOf,
} from '../helpers/model-outputs.ts';

/** Accepted differences in bfloat16 where no routing decision has changed: worst and mean. */
const BF16_WORST = 0.3;
const BF16_MEAN = 0.05;

const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];
/** Greedy decoding as the goldens define it, whatever the folder's generation_config.json says. */
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 24 };

const MODELS = [
  ...TEXT_MODELS.map((name) => ({ name, accepted: PLAIN })),
  ...HYBRID_MODELS.map((name) => ({ name, accepted: name.startsWith('qwen4') ? PLAIN : HYBRID })),
];

describe.each(MODELS)('$name', ({ name, accepted }) => {
  const { golden, tensor: find } = textGolden(name);
  const tensor = (key: string) => find(key) as { shape: number[]; data: Float32Array };
  /** What goes into each layer, and the result of the final norm; none where a prompt's are not kept. */
  const hiddenStates = (prompt: string): Float32Array[] => {
    const hidden = find(`${prompt}.hidden`);
    if (!hidden) return [];
    const [count, positions, width] = hidden.shape as [number, number, number];
    const size = positions * width;
    const entry = (i: number) => (hidden.data as Float32Array).subarray(i * size, (i + 1) * size);
    // One of the entries is the last layer's output before the final norm, which transformers does not return.
    const final = (find(`${prompt}.final`)?.data as Float32Array | undefined) ?? entry(count - 1);
    const layers = find(`${prompt}.final`) ? count - 1 : count - 2;
    return [...Array.from({ length: layers }, (_, i) => entry(i)), final];
  };
  const finalState = (prompt: string) =>
    (find(`${prompt}.final`)?.data as Float32Array | undefined) ??
    (hiddenStates(prompt).at(-1) as Float32Array);
  let model: CausalLM;

  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { dtype: 'float32', threads: 2 });
  });
  afterAll(() => model.dispose());

  describe.each(BACKENDS)('with %s', (backend) => {
    beforeAll(() => model.setExpertsImplementation(backend));

    it('gives the logits of every position', async () => {
      for (const prompt of golden.prompts) {
        const { logits } = await model.forward({ inputIds: [prompt.input_ids] });
        const data = logits.data as Float32Array;
        const vocab = logits.dims[2] as number;
        for (const position of prompt.input_ids.keys()) {
          const row = data.subarray(position * vocab, (position + 1) * vocab);
          expect(maxDifference(row.slice(0, 8), prompt.logits_first8[position] as number[])).toBeLessThan(
            accepted.logits,
          );
          expect(argmax(row)).toBe(prompt.argmax[position]);
          expect(Math.abs((row[argmax(row)] as number) - (prompt.max[position] as number))).toBeLessThan(
            accepted.logits,
          );
          expect(Math.abs(logSumExp(row) - (prompt.logsumexp[position] as number))).toBeLessThan(
            accepted.logits,
          );
          expect(Math.hypot(...row)).toBeCloseTo(prompt.l2[position] as number, 2);
        }
        const last = data.subarray(data.length - vocab);
        expect(maxDifference(last, tensor(`${prompt.name}.logits_last`).data)).toBeLessThan(accepted.logits);
      }
    });

    it('gives the hidden states and the routing of every layer', async () => {
      for (const prompt of golden.prompts) {
        const inputs = { inputIds: [prompt.input_ids], outputHiddenStates: true, outputRouterLogits: true };
        const output = await model.forward(inputs);
        const states = output.hiddenStates ?? [];
        const expectedStates = hiddenStates(prompt.name);
        if (expectedStates.length > 0) expect(states.length).toBe(expectedStates.length);
        for (const [i, expected] of expectedStates.entries())
          expect(maxDifference(states[i]?.data as Float32Array, expected)).toBeLessThan(accepted.logits);
        const logits = find(`${prompt.name}.router_logits`);
        if (logits)
          expect(maxDifference(valuesOf(output.routerLogits), logits.data)).toBeLessThan(accepted.logits);
        const weights = tensor(`${prompt.name}.router_weights`);
        expect(maxDifference(valuesOf(output.routerWeights), weights.data)).toBeLessThan(
          accepted.routerWeights,
        );
        const indices = tensor(`${prompt.name}.router_indices`).data;
        expectSameChoices(valuesOf(output.routerIndices), indices, weights.data, weights.shape[2] as number);
      }
    });

    it('decodes the same greedy tokens, alone and in a batch padded on the left', async () => {
      for (const prompt of golden.prompts) {
        const { sequences } = await model.generate({ inputIds: [prompt.input_ids], ...GREEDY });
        expect(sequences).toEqual([[...prompt.input_ids, ...prompt.greedy.tokens]]);
      }
      if (!golden.batch) return;
      const { input_ids: inputIds, attention_mask: attentionMask, tokens } = golden.batch;
      const { sequences, stats } = await model.generate({ inputIds, attentionMask, ...GREEDY });
      expect(sequences.map((row) => row.slice(-24))).toEqual(tokens);
      expect(Object.keys(stats.expertsCalls)).toEqual([backend]);
    });

    it('ends rows at their end token', async () => {
      if (!golden.stop) return;
      const {
        input_ids: inputIds,
        attention_mask: attentionMask,
        eos_token_id: eosTokenId,
        tokens,
      } = golden.stop;
      const options = { ...GREEDY, eosTokenId, padTokenId: golden.stop.pad_token_id };
      const { sequences } = await model.generate({ inputIds, attentionMask, ...options });
      const prompt = inputIds[0]?.length as number;
      for (const [i, row] of sequences.entries()) {
        const expected = tokens[i] as number[];
        const end = expected.findIndex((token) => eosTokenId.includes(token));
        expect(row.slice(prompt)).toEqual(end < 0 ? expected : expected.slice(0, end + 1));
      }
    });

    it('applies the repetition penalty to prompt and new tokens', async () => {
      if (!golden.greedy_repetition_penalty) return;
      const {
        input_ids: ids,
        repetition_penalty: repetitionPenalty,
        tokens,
      } = golden.greedy_repetition_penalty;
      const { sequences } = await model.generate({ inputIds: [ids], ...GREEDY, repetitionPenalty });
      expect(sequences[0]?.slice(ids.length)).toEqual(tokens);
    });

    it('gives the perplexity of a long sequence', async () => {
      if (!golden.perplexity) return;
      const ids = golden.perplexity.input_ids;
      const { logits } = await model.forward({ inputIds: [ids] });
      const perplexity = perplexityOf(logits, ids);
      expect(Math.abs(perplexity / golden.perplexity.perplexity - 1)).toBeLessThan(PERPLEXITY);
    });

    it('gives the same logits for padded rows as for the rows alone', async () => {
      if (!golden.batch) return;
      const { input_ids: inputIds, attention_mask: attentionMask } = golden.batch;
      const together = await model.forward({ inputIds, attentionMask, logitsToKeep: 1 });
      const vocab = together.logits.dims[2] as number;
      expect(together.logits.dims).toEqual([2, 1, vocab]);
      for (const [i, ids] of inputIds.entries()) {
        const alone = ids.filter((_, j) => attentionMask[i]?.[j] === 1);
        const { logits } = await model.forward({ inputIds: [alone], logitsToKeep: 1 });
        const row = (together.logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
        expect(maxDifference(row, logits.data as Float32Array)).toBeLessThan(accepted.logits);
      }
    });
  });

  it('gives the last hidden state through AutoModel', async () => {
    const base = await AutoModel.fromPretrained(goldenModel(name), { dtype: 'float32', threads: 2 });
    const prompt = golden.prompts.at(-1);
    const { lastHiddenState } = await base.forward({ inputIds: [prompt?.input_ids as number[]] });
    expect(
      maxDifference(lastHiddenState.data as Float32Array, finalState(prompt?.name as string)),
    ).toBeLessThan(accepted.logits);
    await base.dispose();
  });

  it.skipIf(!golden.bf16 || accepted === HYBRID)(
    'stays near float32 when it computes in bfloat16',
    async () => {
      const rounded = await AutoModelForCausalLM.fromPretrained(goldenModel(name), {
        dtype: 'bfloat16',
        threads: 2,
      });
      for (const prompt of golden.prompts) {
        const inputs = { inputIds: [prompt.input_ids], outputRouterLogits: true };
        const [exact, near] = await Promise.all([model.forward(inputs), rounded.forward(inputs)]);
        // Rounding may turn a routing decision; from that position on the values have other reasons to differ.
        const fair = firstChangedRouting(exact.routerIndices, near.routerIndices);
        expect(fair).toBeGreaterThan(0);
        const vocab = exact.logits.dims[2] as number;
        const a = (exact.logits.data as Float32Array).subarray(0, fair * vocab);
        const b = (near.logits.data as Float32Array).subarray(0, fair * vocab);
        expect(maxDifference(b, a)).toBeLessThan(BF16_WORST);
        const mean = a.reduce((sum, x, i) => sum + Math.abs(x - (b[i] as number)), 0) / Math.max(1, a.length);
        expect(mean).toBeLessThan(BF16_MEAN);
      }
      await rounded.dispose();
    },
  );

  it.skipIf(!golden.bf16 || accepted === PLAIN)(
    'is on average as near in bfloat16 as transformers is',
    async () => {
      const rounded = await AutoModelForCausalLM.fromPretrained(goldenModel(name), { threads: 2 });
      expect(rounded.dtype).toBe('bfloat16');
      for (const [i, prompt] of golden.prompts.entries()) {
        const inputs = { inputIds: [prompt.input_ids] };
        const [exact, near] = await Promise.all([model.forward(inputs), rounded.forward(inputs)]);
        const [a, b] = [exact.logits.data as Float32Array, near.logits.data as Float32Array];
        const mean = a.reduce((sum, x, at) => sum + Math.abs(x - (b[at] as number)), 0) / a.length;
        expect(mean).toBeLessThan(1.5 * (golden.bf16?.prompts[i]?.mean_abs_diff_all as number) + 0.02);
      }
      await rounded.dispose();
    },
  );

  it.skipIf(!golden.long)('reads a prompt of several passes, whole and in pieces', async () => {
    const {
      input_ids: ids,
      argmax: best,
      argmax_close: close,
      greedy,
    } = golden.long as Required<GoldenModel>['long'];
    const { logits } = await model.forward({ inputIds: [ids] });
    const data = logits.data as Float32Array;
    const vocab = logits.dims[2] as number;
    for (const [position, expected] of best.entries())
      if (!close.includes(position))
        expect(argmax(data.subarray(position * vocab, (position + 1) * vocab))).toBe(expected);
    const last = data.subarray(-vocab);
    expect(maxDifference(last, tensor('long.logits_last').data)).toBeLessThan(accepted.logits);
    const { length: count } = greedy.tokens;
    const { sequences } = await model.generate({ inputIds: [ids], ...GREEDY, maxNewTokens: count });
    expect(sequences[0]?.slice(ids.length)).toEqual(greedy.tokens);
  });
});
