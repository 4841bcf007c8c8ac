import { cpSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, CheckpointError, type LoadOptions } from '../../src/index.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';

const NAME = 'qwen3_moe_d';
const SHARD = 'model-00001-of-00002.safetensors';
const golden = readJson(goldenModel(NAME), 'expected.json');
const prompt = golden.prompts[0] as (typeof golden.prompts)[0];
const folder = mkdtempSync(join(tmpdir(), 'switchyard-changed-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A copy of the model, to be spoilt. */
function copy(): string {
  const path = mkdtempSync(join(folder, 'model-'));
  cpSync(goldenModel(NAME), path, { recursive: true });
  return path;
}
const load = (path: string, options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(path, { dtype: 'float32', threads: 2, ...options });
const generating = async (model: Awaited<ReturnType<typeof load>>) => {
  const greedy = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 4 };
  const { sequences } = await model.generate({ inputIds: [prompt.input_ids], ...greedy });
  return sequences[0]?.slice(prompt.input_ids.length);
};
const expected = prompt.greedy.tokens.slice(0, 4);

/** The call fails because of the shard, and says so. */
async function expectNamed(call: Promise<unknown>, path: string): Promise<void> {
  const error: Error = await call.then(
    () => expect.fail('it was answered'),
    (fault) => fault,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  expect(error.message).toContain(`${join(path, SHARD)} changed while a model was using it`);
}

it('on the CPU, a model whose file was cut short fails, and what was computed before is kept', async () => {
  const path = copy();
  const model = await load(path);
  expect(await generating(model)).toEqual(expected);
  truncateSync(join(path, SHARD), 5000);
  await expectNamed(generating(model), path);
  await expectNamed(model.forward({ inputIds: [prompt.input_ids] }), path);
  await model.dispose();
});

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();

  it('a model that is there as a whole needs its file no more', async () => {
    const path = copy();
    const model = await load(path, { device: 'cuda' });
    truncateSync(join(path, SHARD), 0);
    expect(await generating(model)).toEqual(expected);
    await model.dispose();
  });

  it('a model whose experts come and go needs it', async () => {
    const path = copy();
    const refusal: Error = await load(path, { device: 'cuda', maxMemory: 1000 }).catch((error) => error);
    const maxMemory = Number(refusal.message.match(/at least .* \((\d+) bytes\)/)?.[1]);
    const model = await load(path, { device: 'cuda', maxMemory });
    expect(await generating(model)).toEqual(expected);
    truncateSync(join(path, SHARD), 0);
    await expectNamed(generating(model), path);
    await model.dispose();
  });

  it('an upload in the middle of which the file is cut short fails', async () => {
    const path = copy();
    const onProgress: LoadOptions['onProgress'] = ({ stage }) => {
      if (stage === 'load') truncateSync(join(path, SHARD), 0);
    };
    await expectNamed(load(path, { device: 'cuda', onProgress }), path);
  });
});
