import { describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { logSumExp } from '../helpers/goldens.ts';
import { folderRepo, goldenPath } from '../tokenizer/folder-repo.ts';
import { generate, model, newTokens, PROMPT, run } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

describe('log-probabilities', () => {
  it('are those of the model’s own logits, whatever processors make of them', async () => {
    const options = {
      maxNewTokens: 4,
      logprobs: 3,
      suppressTokens: model.greedy(PROMPT, 1),
      doSample: true,
      topK: 2,
      seed: 4,
    };
    const { sequences, logprobs } = await run(options);
    const tokens = sequences[0] as number[];
    expect(logprobs?.[0]).toHaveLength(4);
    for (const [i, entry] of (logprobs?.[0] ?? []).entries()) {
      const logits = model.row(tokens[i + 1] as number, tokens[i + 2] as number);
      const expected = (id: number) => (logits[id] as number) - logSumExp(logits);
      const order = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
      expect(entry.id).toBe(tokens[i + 3]);
      expect(entry.top.map(({ id }) => id)).toEqual(order.slice(0, 3));
      for (const { id, logprob } of [entry, ...entry.top]) expect(logprob).toBeCloseTo(expected(id), 6);
    }
  });

  it('change no token, and of a batch each row has its own', async () => {
    const options = { inputIds: [PROMPT, [4, 4, 4]], maxNewTokens: 5 };
    const { sequences, logprobs } = await run({ ...options, logprobs: 0 });
    expect(sequences.map((row) => row.slice(3))).toEqual(await newTokens(options));
    expect(logprobs?.map((row) => row.map(({ id }) => id))).toEqual(sequences.map((row) => row.slice(3)));
    expect(logprobs?.[1]?.every(({ top, text }) => top.length === 0 && text === undefined)).toBe(true);
    expect((await run(options)).logprobs).toBeUndefined();
  });

  it('come with the text and bytes of their tokens where the tokenizer is known', async () => {
    const tokenizer = await loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
    const [part] = tokenizer.encode('你');
    const large = new LookupModel(1024);
    const logitsProcessors = [
      (_: readonly number[], scores: Float32Array) => {
        scores.fill(-Infinity);
        scores[part as number] = 0;
      },
    ];
    const { logprobs } = await generate(
      large,
      {},
      { inputIds: [PROMPT], maxNewTokens: 1, logprobs: 0, logitsProcessors, tokenizer },
    );
    const [entry] = logprobs?.[0] ?? [];
    expect(entry?.bytes).toEqual([...(tokenizer.tokenBytes(part as number) as Uint8Array)]);
    expect(entry?.text).toBe(Buffer.from(entry?.bytes ?? []).toString());
  });

  it.each([21, -1, 1.5])('as many as %d are refused', async (logprobs) => {
    await expect(run({ logprobs })).rejects.toThrow(/logprobs is .*; expected a whole number from 0 to 20/);
  });
});
