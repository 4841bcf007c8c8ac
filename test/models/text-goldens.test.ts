import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModel, AutoModelForCausalLM, type CausalLM, type Tensor } from '../../src/index.ts';
import {
  argmax,
  type GoldenModel,
  goldenModel,
  logSumExp,
  maxDifference,
  readJson,
  readTensors,
  TEXT_MODELS,
} from '../helpers/goldens.ts';

/** Accepted differences to transformers in float32, from the goldens' own spread. */
const LOGITS = 1e-4;
const ROUTER_WEIGHTS = 1e-5;
const PERPLEXITY = 1e-4;
/** Accepted differences in bfloat16 where no routing decision has changed: worst and mean. */
const BF16_WORST = 0.3;
const BF16_MEAN = 0.05;

const BACKENDS = ['eager', 'batched_mm', 'grouped_mm'];
/** Greedy decoding as the goldens define it, whatever the folder's generation_config.json says. */
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 24 };

describe.each(TEXT_MODELS)('%s', (name) => {
  const own: GoldenModel = readJson(goldenModel(name), 'expected.json');
  const source = goldenModel(own.same_as ?? name);
  const golden: GoldenModel = own.same_as ? readJson(source, 'expected.json') : own;
  const tensors = existsSync(join(source, 'expected.safetensors'))
    ? readTensors(join(source, 'expected.safetensors'))
    : new Map<string, never>();
  const tensor = (key: string) => tensors.get(key) as { shape: number[]; data: Float32Array };
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
            LOGITS,
          );
          expect(argmax(row)).toBe(prompt.argmax[position]);
          expect(Math.abs((row[argmax(row)] as number) - (prompt.max[position] as number))).toBeLessThan(
            LOGITS,
          );
          expect(Math.abs(logSumExp(row) - (prompt.logsumexp[position] as number))).toBeLessThan(LOGITS);
          expect(Math.hypot(...row)).toBeCloseTo(prompt.l2[position] as number, 2);
        }
        const last = data.subarray(data.length - vocab);
        expect(maxDifference(last, tensor(`${prompt.name}.logits_last`).data)).toBeLessThan(LOGITS);
      }
    });

    it('gives the hidden states and the routing of every layer', async () => {
      for (const prompt of golden.prompts) {
        const inputs = { inputIds: [prompt.input_ids], outputHiddenStates: true, outputRouterLogits: true };
        const output = await model.forward(inputs);
        const hidden = tensor(`${prompt.name}.hidden`);
        const size = (hidden.shape[1] as number) * (hidden.shape[2] as number);
        const states = output.hiddenStates ?? [];
        // The goldens also hold the last layer's output before the final norm, which transformers does not return.
        expect(states.length).toBe((hidden.shape[0] as number) - 1);
        for (const [i, state] of states.entries()) {
          const entry = i === states.length - 1 ? i + 1 : i;
          const expected = hidden.data.subarray(entry * size, (entry + 1) * size);
          expect(maxDifference(state.data as Float32Array, expected)).toBeLessThan(LOGITS);
        }
        const all = (list: typeof output.routerLogits) =>
          (list ?? []).flatMap((t) => [...(t.data as Float32Array)]);
        expect(
          maxDifference(all(output.routerLogits), tensor(`${prompt.name}.router_logits`).data),
        ).toBeLessThan(LOGITS);
        const weights = tensor(`${prompt.name}.router_weights`);
        expect(maxDifference(all(output.routerWeights), weights.data)).toBeLessThan(ROUTER_WEIGHTS);
        const indices = tensor(`${prompt.name}.router_indices`).data;
        expectSameChoices(all(output.routerIndices), indices, weights.data, weights.shape[2] as number);
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
      const vocab = logits.dims[2] as number;
      let nll = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const row = (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
        nll += logSumExp(row) - (row[ids[i + 1] as number] as number);
      }
      const perplexity = Math.exp(nll / (ids.length - 1));
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
        expect(maxDifference(row, logits.data as Float32Array)).toBeLessThan(LOGITS);
      }
    });
  });

  it('gives the last hidden state through AutoModel', async () => {
    const base = await AutoModel.fromPretrained(goldenModel(name), { dtype: 'float32', threads: 2 });
    const prompt = golden.prompts.at(-1);
    const { lastHiddenState } = await base.forward({ inputIds: [prompt?.input_ids as number[]] });
    const hidden = tensor(`${prompt?.name}.hidden`);
    const size = (hidden.shape[1] as number) * (hidden.shape[2] as number);
    expect(maxDifference(lastHiddenState.data as Float32Array, hidden.data.subarray(-size))).toBeLessThan(
      LOGITS,
    );
    await base.dispose();
  });

  it.skipIf(!golden.bf16)('stays near float32 when it computes in bfloat16', async () => {
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
  });
});

/** First position where any layer chose another set of experts, or the number of positions. */
function firstChangedRouting(a: Tensor[] | undefined, b: Tensor[] | undefined): number {
  const [, positions, k] = (a as [Tensor])[0].dims as [number, number, number];
  const sets = (tensor: Tensor | undefined, position: number) =>
    [...((tensor as Tensor).data as Int32Array).subarray(position * k, (position + 1) * k)].sort().join();
  for (let position = 0; position < positions; position++) {
    if ((a ?? []).some((tensor, layer) => sets(tensor, position) !== sets(b?.[layer], position)))
      return position;
  }
  return positions;
}

/** Equal choices; two kept experts may change places where their weights are nearly equal. */
function expectSameChoices(
  actual: number[],
  expected: ArrayLike<number>,
  weights: ArrayLike<number>,
  k: number,
): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i += k) {
    const near = Array.from({ length: k - 1 }, (_, j) =>
      Math.abs((weights[i + j] as number) - (weights[i + j + 1] as number)),
    );
    const a = actual.slice(i, i + k);
    const b = Array.from({ length: k }, (_, j) => expected[i + j] as number);
    if (near.some((gap) => gap < 1e-5)) expect(a.sort()).toEqual(b.sort());
    else expect(a).toEqual(b);
  }
}
