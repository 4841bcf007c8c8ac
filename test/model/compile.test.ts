import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { autotune } from '../../src/engine/tuning/measure.ts';
import { autotuneFolder } from '../../src/engine/tuning/store.ts';
import { IMPLEMENTATIONS } from '../../src/experts/moe-op.ts';
import {
  AbortError,
  AutoModel,
  AutoModelForCausalLM,
  type CausalLM,
  ExpertsInterface,
  InputError,
  type Tuning,
} from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';
import { Random } from '../helpers/random.ts';

const NAME = 'qwen3_moe_c';
const golden = readJson(goldenModel(NAME), 'expected.json');
const [, prompt] = golden.prompts as [unknown, (typeof golden.prompts)[number]];
const GREEDY = { inputIds: [prompt.input_ids], doSample: false, repetitionPenalty: 1, eosTokenId: [] };
const LAYERS = golden.moe_layers.length;
const COUNTS = [1, 4];

let cache: string;
let model: CausalLM;
const warnings: string[] = [];
const load = () =>
  AutoModelForCausalLM.fromPretrained(goldenModel(NAME), {
    dtype: 'float32',
    threads: 2,
    onWarning: (message) => warnings.push(message),
  });
beforeAll(async () => {
  model = await load();
});
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'switchyard-'));
  vi.stubEnv('SWITCHYARD_CACHE', cache);
});
afterEach(async () => {
  await model.compile();
  model.setExpertsImplementation('grouped_mm');
  warnings.length = 0;
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true, force: true });
});
afterAll(() => model.dispose());

const tuned = (mode: 'max-autotune' | 'max-autotune-no-cudagraphs' = 'max-autotune') =>
  model.compile({ mode, tokenCounts: COUNTS });
const files = () => readdirSync(join(cache, 'autotune'));
const onlyFile = () => join(cache, 'autotune', files()[0] as string);
/** Replaces what was kept, and has it read anew. */
const rewrite = async (text: string) => {
  writeFileSync(onlyFile(), text);
  await model.compile();
  await tuned();
};

describe('compile', () => {
  it('starts with the default, which measures nothing', async () => {
    expect(model.compileMode).toBe('default');
    await model.compile();
    expect(model.executionStats).toMatchObject({ device: 'cpu', compileMode: 'default', tuning: undefined });
    expect(readdirSync(cache)).toEqual([]);
  });

  it('has no graphs to record on the CPU', async () => {
    await model.compile({ mode: 'reduce-overhead' });
    expect(model.compileMode).toBe('reduce-overhead');
    expect(model.executionStats.graphs).toBeUndefined();
    const { sequences } = await model.generate({ ...GREEDY, maxNewTokens: 4 });
    expect(sequences[0]?.slice(-4)).toEqual(prompt.greedy.tokens.slice(0, 4));
  });

  it('measures, keeps the winners, and runs them for grouped_mm', async () => {
    await tuned();
    const { tuning, compileMode } = model.executionStats;
    expect(compileMode).toBe('max-autotune');
    expect(tuning).toMatchObject({ source: 'measured', table: [{ tokens: 1 }, { tokens: 4 }] });
    expect(files()).toHaveLength(1);
    // Whatever won here, a table that says otherwise is followed.
    const kept = JSON.parse(readFileSync(onlyFile(), 'utf8'));
    expect(kept.table).toEqual(tuning?.table);
    await rewrite(
      JSON.stringify({ ...kept, table: [{ tokens: 1, backend: 'eager', recordable: 'batched_mm' }] }),
    );
    const { sequences, stats } = await model.generate({ ...GREEDY, maxNewTokens: 8 });
    expect(sequences[0]?.slice(-8)).toEqual(prompt.greedy.tokens.slice(0, 8));
    expect(stats.expertsCalls).toEqual({ grouped_mm: LAYERS, eager: 7 * LAYERS });
    expect(model.executionStats.decodeBackend).toBe('eager');
  });

  it('never overrides another choice, of the model or of a call', async () => {
    await tuned();
    model.setExpertsImplementation('batched_mm');
    const both = await Promise.all([
      model.generate({ ...GREEDY, maxNewTokens: 6 }),
      model.generate({ ...GREEDY, maxNewTokens: 6, expertsImplementation: 'eager' }),
    ]);
    expect(both.map(({ stats }) => stats.expertsCalls)).toEqual([
      { batched_mm: 6 * LAYERS },
      { eager: 6 * LAYERS },
    ]);
  });

  it('reads what another load has measured', async () => {
    await tuned();
    const other = await load();
    await other.compile({ mode: 'max-autotune-no-cudagraphs', tokenCounts: COUNTS });
    expect(other.executionStats.tuning).toEqual({ ...model.executionStats.tuning, source: 'cache' });
    await other.dispose();
    expect(warnings).toEqual([]);
  });

  it.each([
    ['damaged', (text: string) => text.slice(0, -20), /is damaged or of another version/],
    [
      'of an unknown backend',
      (text: string) => text.replace(/"(grouped|batched)_mm"|"eager"/, '"x"'),
      /damaged/,
    ],
    [
      'of another version',
      (text: string) => text.replace('"version": 4', '"version": 99'),
      /another version/,
    ],
    [
      'of another machine',
      (text: string) => text.replace(/"device": "/, '"device": "other '),
      /another model or machine/,
    ],
  ])('measures anew where the file is %s', async (_, change, warning) => {
    await tuned();
    const before = readFileSync(onlyFile(), 'utf8');
    expect(change(before)).not.toBe(before);
    await rewrite(change(before));
    expect(model.executionStats.tuning?.source).toBe('measured');
    expect(warnings).toEqual([expect.stringMatching(warning)]);
    expect(JSON.parse(readFileSync(onlyFile(), 'utf8')).key).toEqual(JSON.parse(before).key);
    expect(files()).toHaveLength(1);
  });

  it.skipIf(process.platform === 'win32')('waits for no pipe in place of the file', async () => {
    await tuned();
    const file = onlyFile();
    rmSync(file);
    execFileSync('mkfifo', [file]);
    await model.compile();
    await tuned();
    expect(model.executionStats.tuning?.source).toBe('measured');
    expect(warnings).toEqual([
      expect.stringMatching(/not a regular file, but a pipe.*; it is measured anew/),
    ]);
  });

  it('says so where the result cannot be kept, and uses it', async () => {
    writeFileSync(join(cache, 'file'), '');
    vi.stubEnv('SWITCHYARD_CACHE', join(cache, 'file'));
    await tuned();
    expect(model.executionStats.tuning?.source).toBe('measured');
    expect(warnings.at(-1)).toMatch(/cannot be kept.*Set SWITCHYARD_CACHE/);
  });

  it('keeps the mode it had when aborted', async () => {
    await model.compile({ mode: 'reduce-overhead' });
    const signal = AbortSignal.abort();
    await expect(model.compile({ mode: 'max-autotune', signal })).rejects.toThrow(AbortError);
    expect(model.compileMode).toBe('reduce-overhead');
  });

  it('lists the modes for an unknown one', async () => {
    const compile = model.compile({ mode: 'max-autotun' as 'default' });
    await expect(compile).rejects.toThrow(InputError);
    await expect(compile).rejects.toThrow(
      'mode is "max-autotun"; expected one of default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs. ' +
        'Did you mean "max-autotune"?',
    );
    expect(model.compileMode).toBe('default');
  });

  it.each([
    ['none', [0], /tokenCounts is \[0\]; expected a list of whole numbers/],
    ['beyond the context', [1e6], /tokenCounts is \[1000000\]; expected at least one within the context of/],
  ])('refuses token counts that are %s', async (_, tokenCounts, message) => {
    await expect(model.compile({ mode: 'max-autotune', tokenCounts })).rejects.toThrow(message);
  });

  it.each([undefined, 'default', 'reduce-overhead'] as const)(
    'refuses token counts that mode %s does not measure',
    async (mode) => {
      await expect(model.compile({ ...(mode && { mode }), tokenCounts: [1] })).rejects.toThrow(
        /tokenCounts say what max-autotune measures, but the mode is/,
      );
    },
  );

  it('measures again for other token counts, while a table is in force', async () => {
    await tuned();
    await model.compile({ mode: 'max-autotune', tokenCounts: [2, 1, 2] });
    expect(model.executionStats.tuning).toMatchObject({
      table: [{ tokens: 1 }, { tokens: 2 }],
      source: 'measured',
    });
    expect(files()).toHaveLength(2);
    const inForce = model.executionStats.tuning;
    await model.compile({ mode: 'max-autotune-no-cudagraphs', tokenCounts: [1, 2] });
    expect(model.executionStats.tuning).toBe(inForce);
    expect(warnings).toEqual([]);
  });
});

describe('measuring', () => {
  it('gives every backend its turn and the table its winners', async () => {
    const passes: string[] = [];
    const told: unknown[] = [];
    let clock = 0;
    const table = await autotune(
      async (tokens, backend) => {
        passes.push(`${tokens} ${backend}`);
        clock += backend === (tokens === 2 ? 'eager' : 'batched_mm') ? 10 : 14;
      },
      { counts: [8, 2], now: () => clock, onProgress: (progress) => told.push(progress) },
    );
    expect(table).toEqual([
      {
        ...{ tokens: 2, backend: 'eager', recordable: 'grouped_mm' },
        milliseconds: { eager: 10, batched_mm: 14, grouped_mm: 14 },
      },
      {
        ...{ tokens: 8, backend: 'batched_mm', recordable: 'batched_mm' },
        milliseconds: { eager: 14, batched_mm: 10, grouped_mm: 14 },
      },
    ]);
    expect(passes.slice(0, 3)).toEqual(IMPLEMENTATIONS.map((backend) => `2 ${backend}`));
    expect(told).toEqual([
      { tokens: 2, done: 0, total: 4 },
      { tokens: 8, done: 1, total: 4 },
      { tokens: 2, done: 2, total: 4 },
      { tokens: 8, done: 3, total: 4 },
      { tokens: 8, done: 4, total: 4 },
    ]);
  });

  /** A machine on which a pass takes what `cost` says, times what the company of others adds at that moment. */
  const onMachine = async (
    cost: Readonly<Record<string, number>>,
    company: (clock: number, passes: number) => number,
    counts = [1],
  ) => {
    let [clock, passes] = [0, 0];
    const table = await autotune(
      async (_, backend) => {
        clock += (cost[backend] as number) * company(clock, passes++);
      },
      { counts, now: () => clock },
    );
    return { table, passes };
  };
  const EAGER_IS_FASTER = { eager: 8, batched_mm: 10, grouped_mm: 10 };
  const EQUALS = { eager: 10, batched_mm: 10, grouped_mm: 10 };

  it('is not misled by a machine that is warming up', async () => {
    // The first passes map weights, whoever makes them.
    const { table } = await onMachine(EQUALS, (_, passes) => (passes < 3 ? 20 - 6 * passes : 1));
    expect(table).toMatchObject([{ backend: 'grouped_mm', milliseconds: EQUALS }]);
  });

  it('is not misled by somebody who comes and goes while the first count is measured', async () => {
    const { table } = await onMachine(EAGER_IS_FASTER, (clock) => (clock > 60 && clock < 250 ? 3 : 1));
    expect(table).toMatchObject([{ backend: 'eager', recordable: 'grouped_mm' }]);
  });

  it('finds what is faster among passes that scatter, and seldom what is not', async () => {
    const random = new Random(5);
    const noise = () => 1 + 0.5 * random.next() ** 2;
    const winners = async (cost: Readonly<Record<string, number>>) => {
      const tables = await Promise.all(Array.from({ length: 100 }, () => onMachine(cost, noise)));
      return tables.filter(({ table }) => table[0]?.backend === 'eager').length;
    };
    expect(await winners(EAGER_IS_FASTER)).toBeGreaterThan(70);
    expect(await winners(EQUALS)).toBeLessThan(4);
  });

  it('looks again at counts where passes scatter, and lets go of what is hopeless', async () => {
    const calm = await onMachine(EAGER_IS_FASTER, () => 1);
    const random = new Random(6);
    const restless = await onMachine(EQUALS, () => 0.8 + 0.4 * random.next());
    expect(restless.passes).toBeGreaterThan(1.5 * calm.passes);
    const hopeless = await onMachine({ ...EAGER_IS_FASTER, batched_mm: 50 }, () => 1);
    expect(hopeless.passes).toBeLessThan(0.85 * calm.passes);
    expect(hopeless.table).toMatchObject([{ backend: 'eager', milliseconds: { batched_mm: 50 } }]);
  });

  it('leaves the default where time did not suffice for a second look', async () => {
    let clock = 0;
    const table = await autotune(
      async (_, backend) => {
        clock += EAGER_IS_FASTER[backend];
      },
      { counts: [1, 2], seconds: 0.15, now: () => clock },
    );
    expect(table.map(({ backend }) => backend)).toEqual(['eager', 'grouped_mm']);
  });

  it('ends the table where time is up', async () => {
    const table = await autotune(async () => {}, { counts: [1, 2, 4], seconds: 0 });
    expect(table.map(({ tokens }) => tokens)).toEqual([1]);
  });
});

it('the folder follows SWITCHYARD_CACHE, then XDG_CACHE_HOME', () => {
  expect(autotuneFolder({ SWITCHYARD_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe(join('/a', 'autotune'));
  expect(autotuneFolder({ XDG_CACHE_HOME: '/b' })).toBe(join('/b', 'switchyard', 'autotune'));
  expect(autotuneFolder({ HOME: '/c' }, 'linux')).toMatch(/\.cache.switchyard.autotune$/);
  const windows = { LOCALAPPDATA: 'C:\\Users\\me\\AppData\\Local' };
  expect(autotuneFolder(windows, 'win32')).toBe(join(windows.LOCALAPPDATA, 'switchyard', 'autotune'));
  expect(autotuneFolder(windows, 'linux')).not.toContain('AppData');
});

describe('auto', () => {
  /** A model of so short a context that little has to be measured. */
  const CONTEXT = prompt.input_ids.length + 8;
  const load = () =>
    AutoModelForCausalLM.fromPretrained(goldenModel(NAME), {
      ...{ dtype: 'float32', threads: 2, maxCacheLength: CONTEXT },
    });

  it('measures once, keeps what it found, and generates what every backend does', async () => {
    const own = await load();
    own.setExpertsImplementation('auto');
    expect(own.getExpertsImplementation()).toEqual({ '': 'auto' });
    const [first, second] = await Promise.all([
      own.generate({ ...GREEDY, maxNewTokens: 8 }),
      own.generate({ ...GREEDY, maxNewTokens: 8 }),
    ]);
    expect(first.sequences).toEqual([[...prompt.input_ids, ...prompt.greedy.tokens.slice(0, 8)]]);
    expect(second.sequences).toEqual(first.sequences);
    expect(files()).toHaveLength(1);
    const { tuning, decodeBackend, compileMode } = own.executionStats;
    expect(compileMode).toBe('default');
    expect(tuning?.table.map(({ tokens }) => tokens)).toContain(1);
    expect(decodeBackend).toBe(tuning?.table[0]?.backend);
    for (const { milliseconds } of tuning?.table ?? [])
      expect(Object.keys(milliseconds ?? {}).sort()).toEqual([...IMPLEMENTATIONS].sort());
    const { logits } = await own.forward({ inputIds: [prompt.input_ids] });
    expect(logits.dims[1]).toBe(prompt.input_ids.length);
    await own.dispose();
  });

  it('runs each pass on what the table says for its tokens, also pinned by a call', async () => {
    await model.compile({ mode: 'max-autotune', tokenCounts: COUNTS });
    const { key, version } = JSON.parse(readFileSync(onlyFile(), 'utf8'));
    await model.compile();
    const counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].filter((count) => count <= CONTEXT);
    const table = counts.map((tokens) => ({
      tokens,
      backend: tokens === 1 ? 'eager' : 'batched_mm',
      recordable: 'batched_mm',
    }));
    const own = await load();
    await own.generate({ ...GREEDY, maxNewTokens: 1, expertsImplementation: 'auto' });
    const file = files()
      .map((name) => join(cache, 'autotune', name))
      .find((path) => JSON.parse(readFileSync(path, 'utf8')).key.counts === counts.join()) as string;
    writeFileSync(file, JSON.stringify({ version, key: { ...key, counts: counts.join() }, table }));
    await own.dispose();
    const again = await load();
    const { stats } = await again.generate({ ...GREEDY, maxNewTokens: 4, expertsImplementation: 'auto' });
    expect(again.executionStats.tuning?.source).toBe('cache');
    expect(stats.expertsCalls).toEqual({ batched_mm: LAYERS, eager: 3 * LAYERS });
    await again.dispose();
  });

  it('is measured ahead, which tells how far it is, and not again', async () => {
    const own = await load();
    const told: number[] = [];
    const onProgress = ({ done }: { done: number }) => told.push(done);
    const tuning = await own.measureExperts({ onProgress });
    expect(tuning?.source).toBe('measured');
    // At least one look at each count, and the end.
    expect(told.length).toBeGreaterThan(tuning?.table.length as number);
    expect([told[0], told.at(-1)]).toEqual([0, 2 * (tuning?.table.length as number)]);
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    const looks = told.length;
    expect(own.executionStats).toMatchObject({ tuning, compileMode: 'default' });
    await own.generate({ ...GREEDY, maxNewTokens: 1, expertsImplementation: 'auto' });
    await own.compile({ mode: 'max-autotune', onProgress });
    expect(await own.measureExperts({ onProgress })).toBe(tuning);
    expect(told).toHaveLength(looks);
    await own.dispose();
  });

  it('is measured on for others when one of those who wait for it leaves', async () => {
    const own = await load();
    const leaving = new AbortController();
    let isMeasured = false;
    const first = own.measureExperts({ onProgress: () => leaving.abort() }).then((tuning) => {
      isMeasured = true;
      return tuning;
    });
    await expect(own.measureExperts({ signal: leaving.signal })).rejects.toThrow(AbortError);
    expect(isMeasured).toBe(false);
    expect((await first)?.source).toBe('measured');
    await own.dispose();
  });

  it('measures a count again whose passes turn out to be much faster than when it was measured', async () => {
    const own = await load();
    const auto = { expertsImplementation: 'auto' };
    await own.generate({ ...GREEDY, ...auto, maxNewTokens: 1 });
    const [file] = files().map((name) => join(cache, 'autotune', name)) as [string];
    await own.dispose();
    // As measured on a machine that others kept busy, with a winner by chance.
    const stored = JSON.parse(readFileSync(file, 'utf8'));
    const slow = { eager: 1e5, batched_mm: 1e6, grouped_mm: 1e6 };
    const [, ...others] = stored.table;
    const misled = { tokens: 1, backend: 'eager', recordable: 'grouped_mm', milliseconds: slow };
    writeFileSync(file, JSON.stringify({ ...stored, table: [misled, ...others] }));
    const again = await load();
    const few = await again.generate({ ...GREEDY, ...auto, maxNewTokens: 8 });
    expect(few.stats.expertsCalls.eager).toBeGreaterThanOrEqual(7 * LAYERS);
    // Sixteen decode steps are enough to see it; the call that follows measures.
    for (let i = 0; i < 3; i++) await again.generate({ ...GREEDY, ...auto, maxNewTokens: 8 });
    const { table, source } = again.executionStats.tuning as Tuning;
    expect(source).toBe('measured');
    expect(table[0]?.milliseconds?.eager).toBeLessThan(1e5);
    expect(table.slice(1)).toEqual(others);
    expect(JSON.parse(readFileSync(file, 'utf8')).table).toEqual(table);
    await again.dispose();
  });

  it('keeps a table for each storage of the weights', async () => {
    const plain = await load();
    await plain.compile({ mode: 'max-autotune', tokenCounts: [1] });
    await plain.dispose();
    for (const more of [{}, { activationQuantization: 'int8' as const }]) {
      const rounded = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), {
        ...{ dtype: 'float32', threads: 2, maxCacheLength: CONTEXT, quantization: 'int8', ...more },
      });
      await rounded.compile({ mode: 'max-autotune', tokenCounts: [1] });
      expect(rounded.executionStats.tuning?.source).toBe('measured');
      await rounded.dispose();
    }
    const storages = files().map(
      (name) => JSON.parse(readFileSync(join(cache, 'autotune', name), 'utf8')).key.storage,
    );
    expect(storages.sort()).toEqual(['BF16', 'int8', 'int8, int8 activations']);
  });

  it('can be left while it is measured, and is measured on', async () => {
    const own = await load();
    const leaving = AbortSignal.abort();
    await expect(
      own.generate({ ...GREEDY, maxNewTokens: 1, expertsImplementation: 'auto', signal: leaving }),
    ).rejects.toThrow(AbortError);
    const { sequences } = await own.generate({ ...GREEDY, maxNewTokens: 1, expertsImplementation: 'auto' });
    expect(sequences[0]).toHaveLength(prompt.input_ids.length + 1);
    await own.dispose();
  });

  it('is refused by a model without an output head', async () => {
    const base = await AutoModel.fromPretrained(goldenModel(NAME), { expertsImplementation: 'auto' });
    await expect(base.forward({ inputIds: [[1, 2]] })).rejects.toThrow(/"auto" measures whole passes/);
    await base.dispose();
  });

  it('is no backend that could be registered', () => {
    expect(ExpertsInterface.names()).not.toContain('auto');
    expect(() => ExpertsInterface.register('auto', {} as never)).toThrow(/is built in/);
  });
});
