import { describe, expect, test, vi } from 'vitest';
import { expectedWeights } from '../../src/auto/expected-weights.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import { isUsable, runnableModels } from '../../src/auto/runnable-models.ts';
import { PUBLISHED_MODELS } from '../../src/fit/published.ts';
import { countWeights } from '../../src/fit/weight-counts.ts';
import { run } from '../cli/capture.ts';

vi.mock(import('../../src/runtime/machine.ts'), async (original) => {
  const { briefly } = await import('../helpers/brief-measurements.ts');
  return briefly(await original());
});

const sum = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((a, b) => a + b, 0);

/** Billions of parameters, in all and at work on a token without the embedding, as their publisher states them. */
const STATED: Readonly<Record<string, readonly [total: number, active: number]>> = {
  'Qwen/Qwen3.5-397B-A17B': [397, 17],
  'Qwen/Qwen3-235B-A22B-Instruct-2507': [235, 22],
  'Qwen/Qwen3-Next-80B-A3B-Instruct': [80, 3.9],
  'Qwen/Qwen3-Coder-Next': [80, 3.9],
  'Qwen/Qwen3.6-35B-A3B': [35, 3],
  'Qwen/Qwen3-30B-A3B-Instruct-2507': [30.5, 3.3],
  'Qwen/Qwen3-Coder-30B-A3B-Instruct': [30.5, 3.3],
  'Qwen/Qwen3-8B': [8.2, 8.2],
  'Qwen/Qwen1.5-MoE-A2.7B-Chat': [14.3, 2.7],
  'Qwen/Qwen3-4B-Instruct-2507': [4, 4],
  'Qwen/Qwen3-0.6B': [0.6, 0.6],
};

test('every published model has its stated size here', () => {
  expect(PUBLISHED_MODELS.map(({ ways }) => ways[0]?.repo)).toEqual(Object.keys(STATED));
});

test.each(PUBLISHED_MODELS.map((model) => [model.ways[0]?.repo as string, model.config]))(
  'the config of %s gives the size that its publisher states',
  (repo, config) => {
    const model = findArchitecture(config, repo).parse(config, repo);
    const { stored, token } = countWeights(expectedWeights(model), model.work);
    const [total, active] = STATED[repo] as readonly [number, number];
    expect(sum(stored) / 1e9 / total).toBeGreaterThan(0.975);
    expect(sum(stored) / 1e9 / total).toBeLessThan(1.025);
    // Some count the embedding, some do not.
    const least = sum(token) / 1e9;
    const most = least + stored.embedding / 1e9;
    expect(least).toBeLessThan(active * 1.15);
    expect(most).toBeGreaterThan(active * 0.9);
  },
);

describe('the choice', () => {
  const on = (memory: number, memoryRate = 50e9, disk?: number) =>
    runnableModels({ memory, memoryRate }, disk);
  const first = (memory: number, memoryRate?: number, disk?: number) => on(memory, memoryRate, disk)[0];

  test('is the most able model that fits, as exact as it may be', () => {
    expect(first(8e9)).toMatchObject({ repo: 'Qwen/Qwen3-8B', quantization: 'int4', fits: true });
    expect(first(24e9)).toMatchObject({ repo: 'Qwen/Qwen3.6-35B-A3B', quantization: 'int4' });
    expect(first(48e9)).toMatchObject({ repo: 'Qwen/Qwen3-Next-80B-A3B-Instruct', quantization: 'int4' });
    expect(first(96e9)).toMatchObject({ repo: 'Qwen/Qwen3-Next-80B-A3B-Instruct-FP8', format: 'fp8' });
    expect(first(2000e9)).toMatchObject({ use: 'text, pictures, reasoning', fits: true });
  });

  test('goes by the disk as well', () => {
    expect(first(24e9, 50e9, 60e9)).toMatchObject({ repo: 'Qwen/Qwen3.6-35B-A3B-FP8', quantization: 'int4' });
    expect(first(24e9, 50e9, 30e9)).toMatchObject({ repo: 'Qwen/Qwen3.5-35B-A3B-GPTQ-Int4' });
    expect(on(24e9, 50e9, 1e8).filter((model) => isUsable(model, 1e8))).toEqual([]);
  });

  test('puts what is fast before what fits, and that before what does not', () => {
    const groups = on(64e9, 12e9).map(({ fits, tokensPerSecond = 0 }) =>
      fits ? (tokensPerSecond >= 4 ? 0 : 1) : 2,
    );
    expect(groups).toEqual([...groups].sort());
    expect(new Set(groups)).toEqual(new Set([0, 1, 2]));
  });
});

describe('switchyard models', () => {
  test('lists what fits, each with a command, and the rest with its size', async () => {
    const { exitCode, stdout } = await run(['models', '--memory', '24GB']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^24\.0 GB of free memory, read at .*\/s as measured now$/m);
    expect(stdout).toMatch(/^ {2}npx moe-switchyard chat -m Qwen\/Qwen3-30B-A3B\S*( --quantize int4)?$/m);
    expect(stdout).toMatch(
      /too large for this machine[\s\S]*Qwen\/Qwen3\.5-397B-A17B\S* \(.*\): \d+ GB of memory/,
    );
  });

  test('--json has the same, and says what is usable', async () => {
    const { stdout } = await run(['models', '--memory', '24GB', '--json']);
    const { memory, models } = JSON.parse(stdout);
    expect(memory).toBe(24e9);
    expect(models).toHaveLength(PUBLISHED_MODELS.length);
    for (const { usable, needs, command, repo } of models) {
      expect(command).toContain(repo);
      if (usable) expect(needs.weights).toBeLessThan(24e9);
    }
  });

  test('a size that is none is an error', async () => {
    const { exitCode, stderr } = await run(['models', '--memory', 'lots']);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 2,
      stderr: expect.stringMatching(/memory is "lots"/),
    });
  });
});
