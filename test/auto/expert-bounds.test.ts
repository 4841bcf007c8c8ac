import { mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { expertBounds } from '../../src/auto/expert-bounds.ts';
import { loadConfig } from '../../src/auto/load-config.ts';
import type { LoadOptions } from '../../src/auto/load-options.ts';
import { openModelCheckpoint } from '../../src/auto/model-checkpoint.ts';
import { openRepo } from '../../src/auto/open-repo.ts';
import {
  AutoModelForCausalLM,
  type CausalLM,
  CheckpointError,
  DEMO_MODEL,
  InputError,
  type ResidencyStats,
  recordRouting,
} from '../../src/index.ts';
import { memoryHere } from '../../src/runtime/memory-here.ts';
import { storedWeights } from '../../src/weights/quantized-checkpoint.ts';
import { DEMO_FOLDER, goldenModel } from '../helpers/goldens.ts';

const PROMPT = [[5, 6, 7, 8, 9, 10, 11, 12, 44, 91, 17, 3]];
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] as number[], maxNewTokens: 16 };

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-bounded-'));
  folders.push(folder);
  return folder;
}

const load = (path: string, options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(path, { prefixCache: false, ...options });
const residency = (model: CausalLM) => model.executionStats.residency as ResidencyStats;

const bytesIn = ({ message }: Error) => Number(/\((\d+) bytes\)/.exec(message)?.[1]);

/** The least that a model can do with, as the refusal of a single byte says, or of what weights that are still to be rounded take. */
async function leastMemory(path: string, options: LoadOptions = {}): Promise<number> {
  const refused = (maxMemory: number): Promise<Error> =>
    load(path, { ...options, maxMemory }).then(
      () => expect.fail(`${maxMemory} bytes were enough`),
      (error) => error,
    );
  let refusal = await refused(1);
  if (options.quantization) {
    expect(refusal).toBeInstanceOf(InputError);
    refusal = await refused(bytesIn(refusal));
  }
  expect(refusal).toBeInstanceOf(InputError);
  expect(refusal.message).toMatch(
    /^maxMemory allows (?:1 bytes|[\d.]+ MB) of weights in memory, but this model needs at least [\d.]+ MB \(\d+ bytes\): [\d.]+ (?:MB|bytes) that every token reads, and [\d.]+ MB for the experts of one layer\. Raise it \(--max-memory\)$/,
  );
  return bytesIn(refusal);
}

/** What comes of a prompt of several tokens, and of one token a pass. */
async function answer(model: CausalLM) {
  const { logits } = await model.forward({ inputIds: PROMPT });
  const { sequences } = await model.generate({ ...GREEDY, inputIds: PROMPT });
  return { logits: [...logits.data], sequences };
}

async function answerOf(path: string, options: LoadOptions = {}) {
  const model = await load(path, options);
  try {
    return await answer(model);
  } finally {
    await model.dispose();
  }
}

describe.each([
  ['of a tensor each', DEMO_MODEL, {}],
  ['of one tensor a layer', goldenModel('qwen3_moe_c_resaved'), {}],
  ['beside a shared one', goldenModel('qwen2_moe_a'), {}],
  ['beside linear attention', goldenModel('qwen3_next_g'), {}],
  ['rounded to int8', DEMO_MODEL, { quantization: 'int8' }],
  ['rounded to int4', DEMO_MODEL, { quantization: 'int4' }],
] as const)('experts %s', (_, path, options: LoadOptions) => {
  it('give the same bit for bit, however little memory they have', async () => {
    const expected = await answerOf(path, options);
    const least = await leastMemory(path, options);
    const model = await load(path, { ...options, maxMemory: least });
    expect(await answer(model)).toEqual(expected);
    const { residentBytes, hits, fetches, fetchedBytes, hitRate } = residency(model);
    expect(residentBytes).toBeLessThanOrEqual(least);
    expect(hits).toBeGreaterThan(0);
    // Not all of them have room at a time.
    const { layers, experts } = model.routingHeader;
    expect(fetches).toBeGreaterThan(experts);
    expect(hits + fetches).toBeGreaterThan(layers.length * experts);
    expect(fetchedBytes).toBeGreaterThan(0);
    expect(hitRate).toBe(hits / (hits + fetches));
    await model.dispose();
    expect(residency(model)).toMatchObject({ hits, fetches });
    await expect(load(path, { ...options, maxMemory: least - 1 })).rejects.toThrow(/^maxMemory allows/);
  });
});

it('each backend finds the experts that it needs', async () => {
  const least = await leastMemory(DEMO_MODEL);
  for (const expertsImplementation of ['eager', 'batched_mm', 'grouped_mm']) {
    const expected = await answerOf(DEMO_MODEL, { expertsImplementation });
    // With and without room for what is read ahead.
    for (const maxMemory of [least, 2 * least])
      expect(await answerOf(DEMO_MODEL, { expertsImplementation, maxMemory })).toEqual(expected);
  }
});

it('what the next layer will want is guessed, better than by chance, and read ahead', async () => {
  const model = await load(DEMO_MODEL, { maxMemory: 2 * (await leastMemory(DEMO_MODEL)) });
  // A guess counts when a thread has begun to read it, for which a busy machine leaves little time.
  const guesses = async () => {
    await model.generate({ ...GREEDY, maxNewTokens: 64, inputIds: PROMPT });
    return residency(model).readAhead;
  };
  await expect.poll(guesses).toBeGreaterThanOrEqual(100);
  const { readAhead, readAheadWanted, fetches } = residency(model);
  expect(readAheadWanted).toBeLessThanOrEqual(fetches);
  // Four of sixteen experts are wanted.
  expect(readAheadWanted / readAhead).toBeGreaterThan(4 / 16);
  await model.dispose();
});

it('generations side by side take turns at the experts', async () => {
  const maxMemory = await leastMemory(DEMO_MODEL);
  const model = await load(DEMO_MODEL, { maxMemory });
  const prompts = [[[5, 6, 7]], [[301, 22]], [[17, 300, 4, 9]]];
  const alone = [];
  for (const inputIds of prompts) alone.push((await model.generate({ ...GREEDY, inputIds })).sequences);
  const together = await Promise.all(
    prompts.map(async (inputIds) => (await model.generate({ ...GREEDY, inputIds })).sequences),
  );
  expect(together).toEqual(alone);
  await model.dispose();
});

it('experts that were used stay, as far as there is room', async () => {
  const least = await leastMemory(DEMO_MODEL);
  const fetches = async (maxMemory: number) => {
    const model = await load(DEMO_MODEL, { maxMemory });
    await model.generate({ ...GREEDY, maxNewTokens: 48, inputIds: PROMPT });
    const { fetches } = residency(model);
    await model.dispose();
    return fetches;
  };
  expect(await fetches(2 * least)).toBeLessThan(await fetches(least));
});

it('a bound above the weights changes nothing', async () => {
  const model = await load(DEMO_MODEL, { maxMemory: '1GB' });
  expect(model.executionStats.residency).toBeUndefined();
  await model.dispose();
});

it('pinned experts stay there', async () => {
  const file = join(temporaryFolder(), 'run.jsonl');
  const recorded = await load(DEMO_MODEL);
  const recorder = await recordRouting(recorded, file);
  const expected = await answer(recorded);
  await recorder.close();
  await recorded.dispose();
  const least = await leastMemory(DEMO_MODEL);
  const model = await load(DEMO_MODEL, { maxMemory: Math.floor(1.3 * least), pinnedExperts: file });
  const { experts, bytes, lockedBytes } = model.executionStats.pinnedExperts ?? {};
  expect(experts).toBeGreaterThan(0);
  expect(lockedBytes).toBe(bytes);
  expect(residency(model)).toMatchObject({ pinned: experts, fetches: experts, pinnedHits: 0 });
  expect(await answer(model)).toEqual(expected);
  const { predictedHitRate, hitRate } = model.executionStats.pinnedExperts ?? {};
  expect(hitRate).toBeCloseTo(predictedHitRate as number, 12);
  await model.dispose();
  await expect(load(DEMO_MODEL, { maxMemory: least, pinnedExperts: file })).rejects.toThrow(
    /^none of pinnedExperts can stay: maxMemory leaves no room beside the experts of one layer/,
  );
});

it('a file that is cut short meanwhile fails the runs that read it', async () => {
  const folder = join(temporaryFolder(), 'model');
  await cp(DEMO_FOLDER, folder, { recursive: true });
  const model = await load(folder, { maxMemory: await leastMemory(folder) });
  truncateSync(join(folder, 'model.safetensors'), 100_000);
  const run = model.forward({ inputIds: PROMPT });
  await expect(run).rejects.toThrow(CheckpointError);
  await expect(run).rejects.toThrow(/model\.safetensors changed while a model was using it/);
  await model.dispose();
});

it('a model without experts has nothing to leave out', async () => {
  const dense = join(import.meta.dirname, '../fixtures/dense/qwen3');
  await expect(load(dense, { maxMemory: 1000 })).rejects.toThrow(
    /^maxMemory keeps weights below .* has no experts that only some tokens go to\. Leave it out/,
  );
});

it('memory that is not there cannot be given', async () => {
  const repo = await openRepo(DEMO_MODEL, {});
  const { model } = await loadConfig(repo);
  const checkpoint = await openModelCheckpoint(repo, model, undefined, {});
  const bound = (memory: object) =>
    expertBounds(4e6, model, storedWeights(checkpoint), 'demo', { ...memoryHere(), ...memory });
  expect(bound({ available: 5e6 })).toMatchObject({ maxBytes: 4e6 });
  expect(() => bound({ available: 3e6 })).toThrow(
    /^maxMemory is 4\.0 MB, and this process can have 3\.0 MB\. Lower it/,
  );
  expect(() => bound({ available: 3e6, limit: 3e6 })).toThrow(/as its control group limits it/);
});
