import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, ExpertsError, ExpertsInterface } from '../../src/index.ts';
import { denseExperts } from '../conformance/dense-backend.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';
import { hasProc, openFiles, privateDirty } from '../helpers/memory.ts';

const NAME = 'qwen3_moe_c';
const golden = readJson(goldenModel(NAME), 'expected.json');
const [, prompt] = golden.prompts as [unknown, (typeof golden.prompts)[number]];
const GREEDY = { inputIds: [prompt.input_ids], doSample: false, repetitionPenalty: 1, eosTokenId: [] };
const expected = [[...prompt.input_ids, ...prompt.greedy.tokens]];
const MOE_LAYERS = golden.moe_layers.length;

let model: CausalLM;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { dtype: 'float32', threads: 2 });
});
afterAll(() => model.dispose());
afterEach(() => model.setExpertsImplementation('grouped_mm'));

describe('setExpertsImplementation on a loaded model', () => {
  it('takes effect at the next token, counted by the kernel that ran', async () => {
    model.setExpertsImplementation('eager');
    const { stats } = await model.generate({ ...GREEDY, maxNewTokens: 2 });
    expect(stats.expertsCalls).toEqual({ eager: 2 * MOE_LAYERS });
  });

  it('takes effect at the next step of a generation in progress', async () => {
    let pushed = 0;
    const streamer = {
      put: () => {
        if (++pushed === 4) model.setExpertsImplementation('batched_mm');
      },
      end: () => {},
    };
    const { sequences, stats } = await model.generate({ ...GREEDY, maxNewTokens: 24, streamer });
    expect(sequences).toEqual(expected);
    const { grouped_mm: before = 0, batched_mm: after = 0 } = stats.expertsCalls;
    expect(before).toBeGreaterThan(0);
    expect(after).toBeGreaterThan(0);
    expect(before + after).toBe(24 * MOE_LAYERS);
  });

  it.runIf(hasProc)('opens no file and takes no memory', async () => {
    await model.generate({ ...GREEDY, maxNewTokens: 24 });
    const [files, memory] = [openFiles(), privateDirty()];
    for (let i = 0; i < 200; i++)
      model.setExpertsImplementation(['eager', 'batched_mm', 'grouped_mm'][i % 3] as string);
    expect(openFiles()).toEqual(files);
    expect(privateDirty() - memory).toBeLessThan(2 ** 20);
  });

  it('changes nothing when it throws', () => {
    for (const request of [
      'groupd_mm',
      { '': 'eager', text_config: 'eager' },
      { '': 7 as unknown as string },
    ]) {
      expect(() => model.setExpertsImplementation(request)).toThrow(ExpertsError);
      expect(model.getExpertsImplementation()).toEqual({ '': 'grouped_mm' });
    }
    expect(() => model.setExpertsImplementation('groupd_mm')).toThrow(
      /batched_mm, eager, grouped_mm, auto.*"grouped_mm"/,
    );
  });
});

describe('a backend pinned for one call', () => {
  it('leaves the setting of the model alone, also when calls run at once', async () => {
    const pins = ['eager', 'batched_mm', 'grouped_mm', undefined];
    const runs = await Promise.all(
      pins.map((pin) =>
        model.generate({ ...GREEDY, maxNewTokens: 24, ...(pin ? { expertsImplementation: pin } : {}) }),
      ),
    );
    for (const [i, { sequences, stats }] of runs.entries()) {
      expect(sequences).toEqual(expected);
      expect(stats.expertsCalls).toEqual({ [pins[i] ?? 'grouped_mm']: 24 * MOE_LAYERS });
    }
    expect(model.getExpertsImplementation()).toEqual({ '': 'grouped_mm' });
  });

  it('does not see a change made meanwhile', async () => {
    const running = model.generate({ ...GREEDY, maxNewTokens: 24, expertsImplementation: 'eager' });
    model.setExpertsImplementation('batched_mm');
    expect((await running).stats.expertsCalls).toEqual({ eager: 24 * MOE_LAYERS });
  });
});

describe('a registered backend', () => {
  afterEach(() => ExpertsInterface.unregister('dense'));

  it('runs on the loaded weights and gives the same tokens', async () => {
    ExpertsInterface.register('dense', denseExperts);
    model.setExpertsImplementation('dense');
    const { sequences, stats } = await model.generate({ ...GREEDY, maxNewTokens: 24 });
    expect(sequences).toEqual(expected);
    expect(stats.expertsCalls).toEqual({ dense: 24 * MOE_LAYERS });
  });

  it('is refused with its own reason where it cannot serve the model', () => {
    ExpertsInterface.register('dense', { ...denseExperts, supports: () => 'it only runs on Sundays' });
    expect(() => model.setExpertsImplementation('dense')).toThrow(/"dense".*it only runs on Sundays/);
    expect(model.getExpertsImplementation()).toEqual({ '': 'grouped_mm' });
  });
});
