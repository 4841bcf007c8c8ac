import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadOptions } from '../../src/auto/load-options.ts';
import {
  AutoModelForCausalLM,
  type CausalLM,
  type PinnedExpertsStats,
  readRoutingFile,
  recordRouting,
} from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';

const SEPARATE = 'qwen3_moe_c';
/** The same weights in one tensor a layer. */
const FUSED = 'qwen3_moe_c_resaved';
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] as number[], maxNewTokens: 12 };
const prompts = readJson(goldenModel(SEPARATE), 'expected.json').prompts.map(({ input_ids }) => input_ids);

let folder: string;
let file: string;
let sequences: number[][];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-pinned-'));
  file = join(folder, 'run.jsonl');
  const { model } = await load(SEPARATE);
  const recorder = await recordRouting(model, file);
  sequences = await answers(model);
  await recorder.close();
  await model.dispose();
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What a model says to the prompts: several passes over many tokens, and over one each. */
async function answers(model: CausalLM): Promise<number[][]> {
  const all: number[][] = [];
  for (const ids of prompts) all.push(...(await model.generate({ ...GREEDY, inputIds: [ids] })).sequences);
  return all;
}

async function load(name: string, options: LoadOptions = {}) {
  const warnings: string[] = [];
  const model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), {
    ...{ dtype: 'float32', threads: 2, prefixCache: false, onWarning: (text) => warnings.push(text) },
    ...options,
  });
  return { model, warnings };
}
const stats = (model: CausalLM) => model.executionStats.pinnedExperts as PinnedExpertsStats;

/** Bytes of memory that are locked, by Linux's count: whole pages. */
function lockedHere(): number {
  return 1024 * Number(/VmLck:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

describe.each([SEPARATE, FUSED])('the pinned experts of %s', (name) => {
  it('are those that fit, and are read as often as the recording says', async () => {
    const whole = await load(name, { pinnedExperts: file });
    const expertBytes = stats(whole.model).bytes / stats(whole.model).experts;
    await whole.model.dispose();
    const maxBytes = Math.floor(5.5 * expertBytes);
    const { model } = await load(name, { pinnedExperts: { file, maxBytes } });
    const before = stats(model);
    expect(before).toMatchObject({ experts: 5, bytes: 5 * expertBytes });
    expect(before.hitRate).toBeUndefined();
    expect(await answers(model)).toEqual(sequences);
    const { predictedHitRate, hitRate } = stats(model);
    expect(hitRate).toBeGreaterThan(0);
    expect(hitRate).toBeLessThan(1);
    expect(hitRate).toBeCloseTo(predictedHitRate, 12);
    await model.dispose();
  });

  it('are all that the recording needs, where memory suffices', async () => {
    const { model } = await load(name, { pinnedExperts: file });
    const { header, records } = await readRoutingFile(file);
    const width = header.layers.length * header.perToken;
    const used = new Set(
      records.flatMap(({ experts }) =>
        [...experts].flatMap((expert, i) =>
          expert === 0xffff ? [] : [`${Math.floor((i % width) / header.perToken)} ${expert}`],
        ),
      ),
    );
    await answers(model);
    expect(stats(model)).toMatchObject({ experts: used.size, predictedHitRate: 1, hitRate: 1 });
    await model.dispose();
  });

  it.runIf(process.platform === 'linux')('are locked in memory, or a warning says how many are', async () => {
    await expect.poll(lockedHere).toBe(0); // what earlier models locked is gone
    const { model, warnings } = await load(name, { pinnedExperts: file });
    const { bytes, lockedBytes } = stats(model);
    if (lockedBytes < bytes) expect(warnings).toEqual([expect.stringMatching(/^pinnedExperts: .*ulimit -l/)]);
    else expect(warnings).toEqual([]);
    expect(lockedHere()).toBeGreaterThanOrEqual(lockedBytes);
    await model.dispose();
    // The thread that reads ahead lets go of the weights when it looks up next.
    await expect.poll(lockedHere).toBe(0);
  });
});

it('experts that are rounded at load are pinned as they are kept, with their scales', async () => {
  const { model } = await load(SEPARATE, { pinnedExperts: file, quantization: 'int8' });
  const plain = await load(SEPARATE, { pinnedExperts: file });
  const { experts, bytes, lockedBytes } = stats(model);
  const { layers, count } = { layers: model.routingHeader.layers.length, count: model.routingHeader.experts };
  const stored = model
    .stored()
    .weights.filter(({ name }) => name.includes('.experts.'))
    .reduce((sum, { byteLength }) => sum + byteLength, 0);
  expect(bytes / experts).toBe(stored / (layers * count));
  expect(bytes).toBeLessThan(stats(plain.model).bytes);
  expect(lockedBytes).toBeLessThanOrEqual(bytes);
  await model.dispose();
  await plain.model.dispose();
});

describe('pinnedExperts is refused', () => {
  const edited = (name: string, edit: (lines: string[]) => string[]) => {
    const path = join(folder, name);
    writeFileSync(path, `${edit(readFileSync(file, 'utf8').trim().split('\n')).join('\n')}\n`);
    return path;
  };
  const header = (change: object) => (lines: string[]) => [
    JSON.stringify({ ...JSON.parse(lines[0] as string), ...change }),
  ];

  it.each([
    [5, /^pinnedExperts is 5; expected a file of routing records/],
    [{}, /^pinnedExperts is \{\}; expected a file/],
    [{ file: 'x', maxByte: 5 }, /maxByte.*did you mean "maxBytes"/i],
    [{ file: 'x', maxBytes: 'much' }, /^pinnedExperts\.maxBytes is "much"/],
  ])('as %j', async (pinnedExperts, message) => {
    await expect(load(SEPARATE, { pinnedExperts: pinnedExperts as never })).rejects.toThrow(message);
  });

  it('for a file that is not there, or none of records', async () => {
    await expect(load(SEPARATE, { pinnedExperts: join(folder, 'none') })).rejects.toThrow(/none/);
    await expect(load(SEPARATE, { pinnedExperts: goldenModel(`${SEPARATE}/config.json`) })).rejects.toThrow(
      /line 1 is not/,
    );
  });

  it('for a file of a model with other layers or experts, and for one without records', async () => {
    const layers = edited('layers', header({ layers: [0, 7] }));
    await expect(load(SEPARATE, { pinnedExperts: layers })).rejects.toThrow(
      /in each of the layers 0, 7, but/,
    );
    const experts = edited('experts', header({ experts: 300 }));
    await expect(load(SEPARATE, { pinnedExperts: experts })).rejects.toThrow(/with 300 experts in each/);
    const empty = edited('empty', (lines) => lines.slice(0, 1));
    await expect(load(SEPARATE, { pinnedExperts: empty })).rejects.toThrow(/empty has no records/);
  });

  it('for a bound below one expert', async () => {
    await expect(load(SEPARATE, { pinnedExperts: { file, maxBytes: 10 } })).rejects.toThrow(
      /^pinnedExperts\.maxBytes is 10, less than the \d+ bytes of an expert\. Raise it/,
    );
  });

  it('for a model without routed experts', async () => {
    const dense = join(import.meta.dirname, '../fixtures/dense/qwen3');
    await expect(AutoModelForCausalLM.fromPretrained(dense, { pinnedExperts: file })).rejects.toThrow(
      /has no routed experts/,
    );
  });
});
