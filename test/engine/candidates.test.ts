import { closeSync, cpSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Scores } from '../../src/generation/types.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { AutoModelForCausalLM, type CausalLM, EngineError } from '../../src/index.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { topLogits } from '../generation/lookup-model.ts';
import { goldenModel } from '../helpers/goldens.ts';

let model: CausalLM;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_moe_c'), {
    dtype: 'float32',
    threads: 2,
  });
});
afterAll(() => model.dispose());

/** `rows` prompts of `length` tokens, all different. */
const promptsOf = (rows: number, length: number) =>
  Array.from({ length: rows }, (_, row) =>
    Array.from({ length }, (_, i) => (row * 31 + i * 7) % model.vocabSize),
  );

const open = (inputIds: number[][]) =>
  model.openDecoding({ prompts: inputIds.map((ids) => ({ ids })), newTokens: 8 });

describe.each([
  ['one short prompt', 1, 5],
  ['a batch in one pass', 3, 40],
  ['prompts in several passes, row by row', 2, 400],
])('%s', (_, rows, length) => {
  it('gives the highest logits, and all of them on demand, after the prompt and after each step', async () => {
    const decoding = await open(promptsOf(rows, length));
    const check = async (scores: Scores, count: number) => {
      const logits = await scores.logits();
      expect(logits.length).toBe(rows * model.vocabSize);
      expect(scores.top).toEqual(topLogits(logits, rows, count));
      return logits.slice();
    };
    const first = await check(await decoding.prefill(9), 9);
    const tokens = Array.from({ length: rows }, (_, row) => [row + 3]);
    const all = [...tokens.keys()];
    const second = await check(await decoding.step(all, tokens, 1), 1);
    expect(second).not.toEqual(first);
    await check(await decoding.step(all, tokens, 0), 0);
    await check(await decoding.step(all, tokens, model.vocabSize), model.vocabSize);
    decoding.dispose();
  });
});

it('asks for all logits only where a processor wants them or the list does not settle the token', async () => {
  const fetched = async (options: object) => {
    let count = 0;
    const { openDecoding } = model;
    model.openDecoding = async (request) => {
      const decoding = await openDecoding.call(model, request);
      const counting = (scores: Scores): Scores => ({
        top: scores.top,
        logits: () => {
          count++;
          return scores.logits();
        },
      });
      return {
        prefill: async (...args) => counting(await decoding.prefill(...args)),
        step: async (...args) => counting(await decoding.step(...args)),
        takeBack: (row, count) => decoding.takeBack(row, count),
        fork: (parents) => decoding.fork(parents),
        cachedTokens: decoding.cachedTokens,
        expertsCalls: decoding.expertsCalls,
        finish: () => decoding.finish(),
        dispose: () => decoding.dispose(),
      };
    };
    await model.generate({ inputIds: [[5, 6, 7]], maxNewTokens: 4, eosTokenId: [], ...options });
    model.openDecoding = openDecoding;
    return count;
  };
  const off = { repetitionPenalty: 1 };
  expect(await fetched({ ...off, doSample: false })).toBe(0);
  expect(await fetched({ ...off, doSample: true, topK: 20, topP: 0.9, seed: 1 })).toBe(0);
  expect(await fetched({ ...off, doSample: true, topK: 0, topP: 1, seed: 1 })).toBe(4);
  expect(await fetched({ repetitionPenalty: 1.2, doSample: false })).toBe(0);
  expect(await fetched({ repetitionPenalty: 0.9, doSample: false })).toBe(4);
});

it('says so when the model computes no numbers, greedily and sampling', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-'));
  try {
    const files = readdirSync(goldenModel('qwen3_moe_c')).filter((name) => !name.startsWith('expected'));
    for (const name of files) cpSync(join(goldenModel('qwen3_moe_c'), name), join(folder, name));
    const { tensors } = await openCheckpoint(await resolveRepo(folder, {}));
    const { file, offset, byteLength } = tensors.get('model.norm.weight') as TensorInfo;
    const weights = openSync(file, 'r+');
    writeSync(weights, Buffer.alloc(byteLength, 0xff), 0, byteLength, offset);
    closeSync(weights);
    const damaged = await AutoModelForCausalLM.fromPretrained(folder);
    for (const doSample of [false, true]) {
      const generation = damaged.generate({ inputIds: [[5, 6, 7]], maxNewTokens: 4, doSample });
      await expect(generation).rejects.toThrow(EngineError);
      await expect(generation).rejects.toThrow(/all logits are NaN.*weights may be damaged/);
    }
    await damaged.dispose();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
