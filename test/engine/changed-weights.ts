import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { AutoModelForCausalLM, CheckpointError, type LoadOptions } from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';

const NAME = 'qwen3_moe_d';
export const SHARD = 'model-00001-of-00002.safetensors';
const golden = readJson(goldenModel(NAME), 'expected.json');
export const prompt = golden.prompts[0] as (typeof golden.prompts)[0];
const folder = mkdtempSync(join(tmpdir(), 'switchyard-changed-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A copy of the model, to be spoilt. */
export function copy(): string {
  const path = mkdtempSync(join(folder, 'model-'));
  cpSync(goldenModel(NAME), path, { recursive: true });
  return path;
}
export const load = (path: string, options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(path, { dtype: 'float32', threads: 2, ...options });
export const generating = async (model: Awaited<ReturnType<typeof load>>) => {
  const greedy = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 4 };
  const { sequences } = await model.generate({ inputIds: [prompt.input_ids], ...greedy });
  return sequences[0]?.slice(prompt.input_ids.length);
};
export const expected = prompt.greedy.tokens.slice(0, 4);

/** The call fails because of the shard, and says so. */
export async function expectNamed(call: Promise<unknown>, path: string): Promise<void> {
  const error: Error = await call.then(
    () => expect.fail('it was answered'),
    (fault) => fault,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error.message).toContain(`${join(path, SHARD)} changed while a model was using it`);
}
