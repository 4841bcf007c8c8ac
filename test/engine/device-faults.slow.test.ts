import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  AbortError,
  AutoModelForCausalLM,
  type CausalLM,
  type CausalLMGenerateOptions,
  EngineError,
  GenerationAbortError,
  type LoadOptions,
} from '../../src/index.ts';
import { Device, listDevices } from '../../src/runtime/device.ts';
import { run } from '../cli/capture.ts';
import { goldenModel, maxDifference, readJson } from '../helpers/goldens.ts';
import { buildEmulatedLibrary } from '../kernels/cuda/emulation.ts';

const NAME = 'qwen3_moe_d';
const golden = readJson(goldenModel(NAME), 'expected.json');
const [prompt, second] = golden.prompts as [(typeof golden.prompts)[0], (typeof golden.prompts)[0]];
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [], maxNewTokens: 8 };

const load = (options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(goldenModel(NAME), {
    ...{ dtype: 'float32', device: 'cuda', threads: 2 },
    ...options,
  });
const generate = async (
  model: CausalLM,
  { input_ids: ids } = prompt,
  options: Partial<CausalLMGenerateOptions> = {},
) => {
  const { sequences } = await model.generate({ inputIds: [ids], ...GREEDY, ...options });
  return sequences[0]?.slice(ids.length);
};
const tokensOf = ({ greedy } = prompt) => greedy.tokens.slice(0, GREEDY.maxNewTokens);
const usedBytes = async () => {
  const [device] = await listDevices();
  return device ? device.totalBytes - device.freeBytes : Number.NaN;
};

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  let cache: string;
  beforeAll(async () => {
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', await buildEmulatedLibrary());
    cache = mkdtempSync(join(tmpdir(), 'switchyard-'));
    vi.stubEnv('SWITCHYARD_CACHE', cache);
  });
  afterAll(() => {
    vi.unstubAllEnvs();
    rmSync(cache, { recursive: true, force: true });
  });

  it('decodes by a recordable backend where eager was measured as the fastest', async () => {
    const model = await load();
    const compile = () => model.compile({ mode: 'max-autotune', tokenCounts: [1] });
    await compile();
    const [name] = readdirSync(join(cache, 'autotune')) as [string];
    const file = join(cache, 'autotune', name);
    const kept = JSON.parse(readFileSync(file, 'utf8'));
    const table = [{ tokens: 1, backend: 'eager', recordable: 'batched_mm' }];
    writeFileSync(file, JSON.stringify({ ...kept, table }));
    await model.compile();
    expect(model.executionStats.decodeBackend).toBe('batched_mm');
    await model.compile({ mode: 'max-autotune-no-cudagraphs', tokenCounts: [1] });
    expect(model.executionStats.decodeBackend).toBe('eager');
    await compile();
    expect(model.executionStats.decodeBackend).toBe('batched_mm');
    expect(await generate(model)).toEqual(tokensOf());
    // Of the seven steps two run before the third is recorded.
    expect(model.executionStats.graphs).toEqual({ captures: 1, replays: 5, fault: undefined });
    await model.dispose();
  });

  it('goes on recording steps of other backends after those of one could not be', async () => {
    const warnings: string[] = [];
    const model = await load({ onWarning: (text) => warnings.push(text) });
    await model.compile({ mode: 'reduce-overhead' });
    expect(await generate(model, prompt, { expertsImplementation: 'eager' })).toEqual(tokensOf());
    expect(await generate(model)).toEqual(tokensOf());
    expect(model.executionStats.graphs).toMatchObject({
      captures: 1,
      replays: 5,
      fault: expect.stringMatching(/^eager: .*waits for the GPU/),
    });
    expect(warnings).toEqual([expect.stringMatching(/^decode steps by eager run without graphs/)]);
    await model.dispose();
  });

  it('gives hidden states and router outputs as the CPU does', async () => {
    const [gpu, cpu] = await Promise.all([load(), load({ device: 'cpu' })]);
    const inputs = { inputIds: [prompt.input_ids], outputHiddenStates: true, outputRouterLogits: true };
    const [there, here] = await Promise.all([gpu.forward(inputs), cpu.forward(inputs)]);
    for (const part of ['hiddenStates', 'routerLogits', 'routerWeights'] as const) {
      expect(there[part]?.length).toBeGreaterThan(0);
      for (const [i, tensor] of (there[part] ?? []).entries()) {
        expect(tensor.dims).toEqual(here[part]?.[i]?.dims);
        const expected = here[part]?.[i]?.data as Float32Array;
        expect(maxDifference(tensor.data as Float32Array, expected)).toBeLessThan(1e-4);
      }
    }
    expect(there.routerIndices?.map(({ data }) => data)).toEqual(here.routerIndices?.map(({ data }) => data));
    await Promise.all([gpu.dispose(), cpu.dispose()]);
    expect(await usedBytes()).toBe(0);
  });

  it('keeps generations apart that replay steps at the same time, of one model and of two', async () => {
    const models = await Promise.all([load(), load({ maxMemory: '1GB' })]);
    for (const model of models) await model.compile({ mode: 'reduce-overhead' });
    const runs = models.flatMap((model) => [generate(model, prompt), generate(model, second)]);
    const [a, b] = [tokensOf(prompt), tokensOf(second)];
    expect(await Promise.all(runs)).toEqual([a, b, a, b]);
    for (const model of models) {
      // Seven steps of two generations, which share them where both wait at the same time; two of a kind run before the third.
      const replays = model.executionStats.graphs?.replays ?? 0;
      expect(replays).toBeGreaterThan(0);
      expect(replays).toBeLessThanOrEqual(10);
      await model.dispose();
    }
    expect(await usedBytes()).toBe(0);
  });

  it('ends at an abort between replayed steps, with the tokens until then', async () => {
    const model = await load();
    await model.compile({ mode: 'reduce-overhead' });
    const abort = new AbortController();
    const endAfterSix = (tokens: readonly number[]) => {
      if (tokens.length === prompt.input_ids.length + 6) abort.abort();
      return false;
    };
    const options = { signal: abort.signal, stoppingCriteria: [endAfterSix] };
    const error = await generate(model, prompt, options).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(GenerationAbortError);
    const { partial } = error as GenerationAbortError;
    expect(partial.sequences[0]?.slice(-6)).toEqual(tokensOf().slice(0, 6));
    expect(await generate(model)).toEqual(tokensOf());
    await model.dispose();
    expect(await usedBytes()).toBe(0);
  });

  it('refuses work after dispose, also in the middle of a generation, and keeps nothing', async () => {
    const model = await load();
    await model.compile({ mode: 'reduce-overhead' });
    let disposal: Promise<void> | undefined;
    const disposeAfterFive = (tokens: readonly number[]) => {
      if (tokens.length === prompt.input_ids.length + 5) disposal = model.dispose();
      return false;
    };
    const disposed = /the model was disposed; load it again/;
    await expect(generate(model, prompt, { stoppingCriteria: [disposeAfterFive] })).rejects.toThrow(disposed);
    await disposal;
    await expect(generate(model)).rejects.toThrow(disposed);
    await expect(model.forward({ inputIds: [prompt.input_ids] })).rejects.toThrow(disposed);
    expect(await usedBytes()).toBe(0);
  });

  it('frees the GPU when loading ends half-way', async () => {
    const listener = load({
      onProgress: ({ stage }) => {
        if (stage === 'load') throw new RangeError('of the listener');
      },
    });
    await expect(listener).rejects.toThrow(new RangeError('of the listener'));
    expect(await usedBytes()).toBe(0);
    const abort = new AbortController();
    const aborted = load({
      signal: abort.signal,
      onProgress: ({ stage }) => {
        if (stage === 'load') abort.abort();
      },
    });
    await expect(aborted).rejects.toThrow(AbortError);
    expect(await usedBytes()).toBe(0);
  });

  it('gives every refusal of a disposed device as an EngineError', async () => {
    const device = await Device.open();
    const memory = await device.allocate(8, 'a test');
    await device.dispose();
    await expect(device.allocate(8, 'a test')).rejects.toThrow(EngineError);
    await expect(memory.write(new Uint8Array(8))).rejects.toThrow(EngineError);
    await expect(device.measureCopyRate()).rejects.toThrow(/the device is disposed/);
    memory.dispose();
  });

  it('tells with --stats what ran and what was fetched', async () => {
    const args = ['--model', goldenModel(NAME), '--input-ids', prompt.input_ids.join(','), '--ignore-eos'];
    const compute = ['--dtype', 'float32', '--device', 'cuda', '--compile', 'reduce-overhead', '--stats'];
    const generated = ['--temperature', '0', '--max-new-tokens', '8', ...compute];
    const free = await run(['generate', ...args, ...generated]);
    expect(free.stderr).toMatch(/^graphs +1 step recorded, 5 replayed$/m);
    expect(free.stderr).toMatch(/^GPU weights +\S+ [kMG]?B$/m);
    const refused = await run(['generate', ...args, ...generated, '--max-memory', '1000']);
    const [, least] = refused.stderr.match(/at least .* \((\d+) bytes\)/) ?? [];
    const bounded = await run(['generate', ...args, ...generated, '--max-memory', String(least)]);
    expect(bounded.stderr).toMatch(/^graphs +0 steps recorded, 0 replayed; not by batched_mm: .*maxMemory$/m);
    expect(bounded.stderr).toMatch(
      /^GPU weights +\S+ [kMG]?B; experts: [1-9]\d* there \(\d+\.\d%\), [1-9]\d* fetched, \S+ [kMG]?B$/m,
    );
    expect(bounded.stdout).toBe(free.stdout);
  });
});
