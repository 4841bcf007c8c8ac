/** Dense families, which are those with experts without them: small checkpoints that `fixtures/dense/make.py` wrote. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import { AutoConfig, AutoModelForCausalLM, type CausalLM, ExpertsError } from '../../src/index.ts';
import { argmax, type GoldenModel, maxDifference, readJson } from '../helpers/goldens.ts';

const folderOf = (name: string) => join(import.meta.dirname, '../fixtures/dense', name);
const LOGITS = 1e-4;
const GREEDY = { doSample: false, eosTokenId: [], maxNewTokens: 12 };

describe.each(['qwen2', 'qwen3', 'qwen3_5_text'])('%s', (name) => {
  const { prompts } = readJson<GoldenModel>(folderOf(name), 'expected.json');
  let model: CausalLM;
  const warnings: string[] = [];
  beforeAll(async () => {
    const onWarning = (message: string) => warnings.push(message);
    model = await AutoModelForCausalLM.fromPretrained(folderOf(name), { threads: 2, onWarning });
  });
  afterAll(() => model.dispose());

  it('gives the logits of transformers', async () => {
    for (const { input_ids: ids, logits_first8: first8, argmax: best } of prompts) {
      const { logits } = await model.forward({ inputIds: [ids] });
      const vocab = logits.dims[2] as number;
      for (const position of ids.keys()) {
        const row = (logits.data as Float32Array).subarray(position * vocab, (position + 1) * vocab);
        expect(maxDifference(row.slice(0, 8), first8[position] as number[])).toBeLessThan(LOGITS);
        expect(argmax(row)).toBe(best[position]);
      }
    }
  });

  it('decodes the same tokens, alone and in one batch', async () => {
    for (const { input_ids: ids, greedy } of prompts) {
      const { sequences } = await model.generate({ inputIds: [ids], ...GREEDY });
      expect(sequences[0]?.slice(ids.length)).toEqual(greedy);
    }
    const width = Math.max(...prompts.map(({ input_ids: ids }) => ids.length));
    const padded = (ids: number[], filler: number) => [...Array(width - ids.length).fill(filler), ...ids];
    const inputIds = prompts.map(({ input_ids: ids }) => padded(ids, 0));
    const attentionMask = prompts.map(({ input_ids: ids }) =>
      padded(
        ids.map(() => 1),
        0,
      ),
    );
    const { sequences } = await model.generate({ inputIds, attentionMask, ...GREEDY });
    expect(sequences.map((row) => row.slice(-12))).toEqual(prompts.map(({ greedy }) => greedy));
  });

  it('has no experts, and says so to who asks for a backend of them', async () => {
    expect(model.getExpertsImplementation()).toEqual({ '': 'eager' });
    expect(() => model.setExpertsImplementation('grouped_mm')).toThrow(ExpertsError);
    expect((await AutoConfig.fromPretrained(folderOf(name))).experts).toBeUndefined();
    expect(warnings).toEqual([]);
  });
});

it('a dense Qwen3.5 sees as the one with experts does', () => {
  const config = { model_type: 'qwen3_5', vision_config: { out_hidden_size: 4096 } };
  const model = findArchitecture(config, 'config.json').parse(config, 'config.json');
  expect(model.routed).toBeUndefined();
  expect(model.media).toBeDefined();
  expect(model.languageModel?.subConfigs).toEqual(['text_config', 'vision_config']);
});
