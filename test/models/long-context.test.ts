import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import { ConfigError } from '../../src/errors.ts';
import { AutoModelForCausalLM, DEMO_MODEL } from '../../src/index.ts';
import { parseRope, type RopePlace } from '../../src/models/rope-config.ts';
import { computeRope } from '../../src/nn/rope-frequencies.ts';
import { goldenModel, maxDifference, readJson } from '../helpers/goldens.ts';

type Json = Record<string, unknown>;
interface Golden {
  base: Json;
  frequencies: { name: string; config: Json; inverse_frequencies: number[]; attention_scaling: number }[];
  generations: {
    model: string;
    config: Json;
    prompt: number[];
    tokens: number[];
    logits_first8: number[];
    gap: number;
  }[];
}
/** From transformers 5.18, in float32. */
const golden: Golden = readJson(fileURLToPath(new URL('../fixtures/goldens', import.meta.url)), 'rope.json');

const place: RopePlace = {
  file: 'config.json',
  path: '',
  headDim: 16,
  defaultTheta: 1e4,
  layerTypes: ['full_attention'],
};
const parse = (config: Json, where: Partial<RopePlace> = {}) =>
  parseRope({ max_position_embeddings: 64, ...config }, { ...place, ...where });

describe('rope frequencies agree with transformers', () => {
  it.each(golden.frequencies)('$name', ({ config, inverse_frequencies, attention_scaling }) => {
    const rope = computeRope(parse(config).parameters, 16);
    for (const [i, frequency] of inverse_frequencies.entries())
      expect(Math.abs((rope.inverseFrequencies[i] as number) - frequency)).toBeLessThanOrEqual(
        2e-7 * frequency,
      );
    expect(rope.attentionScaling).toBeCloseTo(attention_scaling, 7);
  });
});

describe('long prompts give the tokens of transformers', () => {
  it.each(golden.generations)(
    '$model, $config',
    async ({ model: name, config, prompt, tokens, logits_first8 }) => {
      const model = await AutoModelForCausalLM.fromPretrained(goldenModel(name), {
        dtype: 'float32',
        config,
        onWarning: () => {},
      });
      try {
        const options = {
          doSample: false,
          repetitionPenalty: 1,
          eosTokenId: [],
          maxNewTokens: tokens.length,
        };
        // Beside a shorter row, whose frequencies are its own.
        const inputIds = [prompt, [...prompt.slice(0, 30).fill(0), ...prompt.slice(30)]];
        const attentionMask = [
          prompt.map(() => 1),
          prompt.map((_, i) => (i < Math.min(30, prompt.length - 1) ? 0 : 1)),
        ];
        const { sequences } = await model.generate({ inputIds, attentionMask, ...options });
        expect(sequences[0]?.slice(prompt.length)).toEqual(tokens);
        const { logits } = await model.forward({ inputIds: [prompt], logitsToKeep: 1 });
        expect(maxDifference((logits.data as Float32Array).slice(0, 8), logits_first8)).toBeLessThan(1e-4);
      } finally {
        await model.dispose();
      }
    },
  );
});

it('of a prompt that runs in several passes, the last logits are those of all', async () => {
  await using model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, { dtype: 'float32' });
  const inputIds = [1, 2].map((row) => Array.from({ length: 700 }, (_, i) => (row * 31 + i * 7) % 3000));
  const all = await model.forward({ inputIds });
  const vocab = all.logits.dims[2] as number;
  for (const kept of [1, 200]) {
    const { logits } = await model.forward({ inputIds, logitsToKeep: kept });
    expect(logits.dims).toEqual([2, kept, vocab]);
    for (const row of [0, 1]) {
      const of = (data: unknown, end: number) =>
        (data as Float32Array).subarray((end - kept) * vocab, end * vocab);
      const last = of(all.logits.data, (row + 1) * 700);
      expect(maxDifference(of(logits.data, (row + 1) * kept), last)).toBeLessThan(1e-4);
    }
  }
});

describe('the context', () => {
  const yarn = (settings: Json) => ({ rope_scaling: { rope_type: 'yarn', factor: 4, ...settings } });
  it.each<[string, Json, number]>([
    ['without scaling is max_position_embeddings', { rope_theta: 1e6 }, 64],
    ['is what yarn reaches', yarn({ original_max_position_embeddings: 48 }), 192],
    ['is what yarn reaches from max_position_embeddings', yarn({}), 256],
    [
      'takes the original length beside the dictionary',
      { ...yarn({}), original_max_position_embeddings: 20 },
      80,
    ],
    ['is no shorter than max_position_embeddings', yarn({ original_max_position_embeddings: 8 }), 64],
    ['is what linear scaling reaches', { rope_scaling: { type: 'linear', factor: 2.5 } }, 160],
    ['is what dynamic scaling reaches', { rope_scaling: { type: 'dynamic', factor: 2 } }, 128],
    [
      'grows with the factor that the two lengths give',
      yarn({ factor: null, original_max_position_embeddings: 16 }),
      64,
    ],
  ])('%s', (_, config, length) => {
    expect(parse(config).contextLength).toBe(length);
  });
});

describe('rope settings', () => {
  const nested = (sliding: Json | null) => ({
    rope_parameters: {
      full_attention: { rope_type: 'linear', factor: 2, rope_theta: 5e4 },
      sliding_attention: sliding,
    },
  });

  it('may be given for each kind of attention', () => {
    expect(parse(nested(null)).parameters).toMatchObject({ type: 'linear', factor: 2, theta: 5e4 });
    expect(parse(nested({ rope_type: 'default' })).parameters).toMatchObject({ type: 'linear' });
    const both = { layerTypes: ['full_attention', 'sliding_attention'] };
    const same = nested({ rope_type: 'linear', factor: 2, rope_theta: 5e4 });
    expect(parse(same, both).parameters.factor).toBe(2);
    expect(() => parse(nested({ rope_type: 'default' }), both)).toThrow(
      /rope_parameters\.sliding_attention is \{"rope_type":"default"\}; expected the settings of full_attention/,
    );
  });

  it.each<[Json, RegExp]>([
    [
      { rope_scaling: { type: 'yarm', factor: 2 } },
      /rope_scaling\.type is "yarm"; expected one of .*Did you mean "yarn"/,
    ],
    [
      { rope_scaling: { rope_type: 'linear' } },
      /rope_scaling\.factor is undefined; expected a number above 0/,
    ],
    [{ rope_scaling: { rope_type: 'yarn', factor: Number.NaN } }, /rope_scaling\.factor is NaN/],
    [
      { rope_scaling: { rope_type: 'llama3', factor: 2, low_freq_factor: 4, high_freq_factor: 1 } },
      /high_freq_factor is 1; expected a number above 4/,
    ],
    [
      { rope_scaling: { rope_type: 'longrope', factor: 2, short_factor: [1], long_factor: [1] } },
      /short_factor is \[1\]; expected 8 numbers/,
    ],
    [
      { rope_scaling: { rope_type: 'yarn', factor: 2 }, partial_rotary_factor: 0.5 },
      /partial_rotary_factor is 0\.5; expected 1/,
    ],
  ])('are refused where they make no sense: %j', (config, message) => {
    expect(() => parse(config)).toThrow(ConfigError);
    expect(() => parse(config)).toThrow(message);
  });

  it('laid over those of a newer file keep its theta', () => {
    const stored = { rope_parameters: { rope_type: 'default', rope_theta: 5e6 } };
    const scaling = { rope_scaling: { rope_type: 'yarn', factor: 2 } };
    expect(parse({ ...stored, ...scaling }).parameters).toMatchObject({ type: 'yarn', theta: 5e6 });
    expect(parse({ ...stored, ...scaling, rope_theta: 7 }).parameters.theta).toBe(7);
  });

  it('that a type does not read are not judged', () => {
    const config = {
      rope_scaling: { rope_type: 'default', factor: 'x', beta_fast: Number.NaN, mrope_section: [1] },
    };
    expect(parse(config).parameters.type).toBe('default');
  });
});

describe('layer_types', () => {
  const config = {
    ...{ num_hidden_layers: 2, hidden_size: 16, num_attention_heads: 2, num_key_value_heads: 2 },
    ...{ use_sliding_window: true, sliding_window: 7 },
  };
  const windows = (modelType: string, more: Json) => {
    const json = { model_type: modelType, ...config, ...more };
    return findArchitecture(json, 'config.json')
      .parse(json, 'config.json')
      .caches.map((cache) => (cache.kind === 'keys_values' ? cache.window : undefined));
  };
  const [full, sliding] = ['full_attention', 'sliding_attention'];

  it('say which layers have a window', () => {
    for (const type of ['qwen2_moe', 'qwen3_moe']) {
      expect(windows(type, { layer_types: [full, sliding] })).toEqual([undefined, 7]);
      expect(windows(type, { layer_types: [full, full], use_sliding_window: false })).toEqual([
        undefined,
        undefined,
      ]);
    }
    expect(windows('qwen2_moe', {})).toEqual([7, undefined]);
    expect(windows('qwen3_moe', {})).toEqual([7, 7]);
    expect(windows('qwen3_moe', { layer_types: ['attention', sliding] })).toEqual([undefined, 7]);
  });

  it.each<[Json, RegExp]>([
    [{ layer_types: [sliding] }, /layer_types is \["sliding_attention"\]; expected 2 entries/],
    [
      { layer_types: [full, 'linear_attention'] },
      /layer_types\.1 is "linear_attention"; expected full_attention or/,
    ],
    [
      { layer_types: [full, sliding], use_sliding_window: false },
      /layer_types\.1 .*use_sliding_window is false/,
    ],
    [
      { layer_types: [full, sliding], sliding_window: 0 },
      /sliding_window is 0; expected a whole number above 0/,
    ],
  ])('are refused where they contradict the rest: %j', (more, message) => {
    for (const type of ['qwen2_moe', 'qwen3_moe']) expect(() => windows(type, more)).toThrow(message);
  });

  it('leave alone a window that nobody uses', () => {
    for (const sliding_window of [0, -1, null, 'none'])
      expect(windows('qwen2_moe', { use_sliding_window: false, sliding_window })).toEqual([
        undefined,
        undefined,
      ]);
  });
});
