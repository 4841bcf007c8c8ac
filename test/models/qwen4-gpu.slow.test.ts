import { cpSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  type CausalLM,
  type CausalLMGenerateOptions,
  type LoadOptions,
} from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel, maxDifference, textGolden } from '../helpers/goldens.ts';

const NAME = 'qwen4_exp_k';
const TOKENS = 6;
const { golden, tensor } = textGolden(NAME);
/** Longer than what its index lets a token see. */
const long = golden.prompts[3] as (typeof golden.prompts)[number];

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('qwen4_exp on an emulated GPU', () => {
  useEmulatedGpu();
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-qwen4-gpu-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const load = (path = goldenModel(NAME), options: LoadOptions = {}) =>
    AutoModelForCausalLM.fromPretrained(path, { dtype: 'float32', device: 'cuda', threads: 2, ...options });
  const greedy = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: TOKENS };
  const generate = async (model: CausalLM, options: Partial<CausalLMGenerateOptions> = {}) => {
    const { sequences } = await model.generate({ inputIds: [long.input_ids], ...greedy, ...options });
    return sequences[0]?.slice(long.input_ids.length);
  };
  const expected = long.greedy.tokens.slice(0, TOKENS);

  it('replays decode steps with the tokens of transformers, though the host reads rows in each', async () => {
    const model = await load();
    await model.compile({ mode: 'reduce-overhead' });
    expect(await generate(model)).toEqual(expected);
    expect(model.executionStats.graphs).toMatchObject({ captures: 1, fault: undefined });
    expect(model.executionStats.graphs?.replays).toBeGreaterThan(1);
    await model.dispose();
  });

  it('computes in bfloat16 and float16 near float32', async () => {
    for (const [dtype, accepted] of [
      ['bfloat16', 0.25],
      ['float16', 0.03],
    ] as const) {
      const model = await load(goldenModel(NAME), { dtype });
      const { logits } = await model.forward({
        inputIds: [long.input_ids],
        logitsToKeep: 1,
      });
      const last = tensor(`${long.name}.logits_last`)?.data as Float32Array;
      const difference = maxDifference(logits.data as Float32Array, last);
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(accepted);
      await model.dispose();
    }
  });

  it('needs the file of its table, and fails where that is cut short between recorded steps', async () => {
    const path = mkdtempSync(join(folder, 'model-'));
    cpSync(goldenModel(NAME), path, { recursive: true });
    const model = await load(path);
    await model.compile({ mode: 'reduce-overhead' });
    let replays: number | undefined;
    const streamer = {
      put() {
        replays = model.executionStats.graphs?.replays;
        if (replays) truncateSync(join(path, 'model-00002-of-00002.safetensors'), 5000);
      },
      end() {},
    };
    await expect(generate(model, { streamer })).rejects.toThrow(/changed while a model was using it/);
    expect(replays).toBe(1);
    await expect(model.forward({ inputIds: [[1, 2]] })).rejects.toThrow(/changed while a model was using it/);
    await model.dispose();
  });
});
