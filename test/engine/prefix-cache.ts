import { afterAll } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { goldenModel } from '../helpers/goldens.ts';

export const NAME = 'qwen3_moe_c';
export const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] };
export const prompt = (length: number, seed: number, vocab = 100) =>
  Array.from({ length }, (_, i) => (seed * 31 + i * 7) % vocab);

interface Opened {
  readonly model: CausalLM;
  readonly engine: Engine;
}

const opened: CausalLM[] = [];
afterAll(() => Promise.all(opened.map((model) => model.dispose())));
export async function open(options: object = {}): Promise<Opened> {
  const parts = await loadModel(goldenModel(NAME), { dtype: 'float32', threads: 2, ...options }, 'logits');
  const model = new CausalLM(parts);
  opened.push(model);
  return { model, engine: parts.engine };
}

/** The tokens after a prompt, and how many of the prompt did not run. */
export async function generate(model: CausalLM, ids: readonly number[], more: object = {}) {
  const { sequences, stats } = await model.generate({
    ...{ inputIds: [ids], maxNewTokens: 8, ...GREEDY },
    ...more,
  });
  return { tokens: sequences[0]?.slice(ids.length) ?? [], cached: stats.cachedTokens };
}
