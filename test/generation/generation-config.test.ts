import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import {
  generationFields,
  parseGenerationConfig,
  unservedSettings,
} from '../../src/generation/generation-config.ts';
import { resolveParameters } from '../../src/generation/resolve-parameters.ts';

describe('generation_config.json', () => {
  it('is read as published repos write it', () => {
    const config = parseGenerationConfig({
      bos_token_id: 990,
      pad_token_id: 990,
      do_sample: true,
      eos_token_id: [992, 990],
      repetition_penalty: 1.05,
      temperature: 0.7,
      top_p: 0.8,
      top_k: 20,
      max_length: null,
      transformers_version: '4.39.0.dev0',
    });
    expect(config).toEqual({
      padTokenId: 990,
      doSample: true,
      eosTokenId: [992, 990],
      repetitionPenalty: 1.05,
      temperature: 0.7,
      topP: 0.8,
      topK: 20,
    });
  });

  it('may be missing', () => {
    expect(parseGenerationConfig(undefined)).toEqual({});
  });

  it.each([
    [[], /g\.json holds \[\]; expected an object/],
    [null, /g\.json holds null; expected an object/],
    [{ do_sample: 'yes' }, /g\.json: do_sample is "yes"; expected true or false/],
    [{ eos_token_id: 'end' }, /g\.json: eos_token_id is "end"/],
    [{ eos_token_id: [3, null] }, /eos_token_id is \[3,null\]/],
    [{ max_new_tokens: 1.5 }, /max_new_tokens is 1\.5.*give maxNewTokens in the call/],
    [{ stop_strings: '' }, /stop_strings is ""/],
    [{ do_sample: true, temperature: 0 }, /temperature is 0, but do_sample asks for sampling/],
    [{ do_sample: true, top_k: 2.5 }, /top_k is 2\.5/],
  ])('is refused where damaged: %j', (json, message) => {
    const use = () => resolveParameters([parseGenerationConfig(json, 'g.json')]);
    expect(use).toThrow(ConfigError);
    expect(use).toThrow(message);
  });

  it('is not judged where nothing is made of it', () => {
    const leftovers = parseGenerationConfig({
      do_sample: false,
      temperature: 0,
      top_k: -1,
      top_p: 7,
      typical_p: 'x',
    });
    expect(resolveParameters([leftovers])).toMatchObject({ doSample: false, temperature: 1, topP: 1 });
    const zero = parseGenerationConfig({
      do_sample: true,
      temperature: 0,
      top_k: 'all',
      eos_token_id: 'end',
    });
    expect(resolveParameters([{ doSample: false, eosTokenId: 3 }, zero]).eosTokenIds).toEqual([3]);
    expect(resolveParameters([{ temperature: 0.7, topK: 4, eosTokenId: [] }, zero])).toMatchObject({
      doSample: true,
      temperature: 0.7,
      topK: 4,
    });
  });

  it('may say with -1 that there is no such token', () => {
    const config = parseGenerationConfig({ eos_token_id: -1, pad_token_id: -1, forced_eos_token_id: null });
    expect(resolveParameters([config])).toMatchObject({ eosTokenIds: [], padTokenId: 0 });
    expect(resolveParameters([parseGenerationConfig({ eos_token_id: [-1, 5] })]).eosTokenIds).toEqual([5]);
  });

  it('has its settings without effect named, and no others', () => {
    const settings = {
      ...{ num_beams: 4, guidance_scale: 1.5, penalty_alpha: 0.6, wishful_penalty: 1.5, dola_layers: null },
      ...{ bos_token_id: 1, eos_token_id: 2, use_cache: true, length_penalty: 2, transformers_version: '5' },
      ...{ suppress_tokens: [4], diversity_penalty: 0.0, cache_implementation: 'static', top_k: 3 },
    };
    expect(unservedSettings(settings)).toEqual(['penalty_alpha: 0.6', 'wishful_penalty: 1.5']);
  });
});

describe('config.json, where there is no generation_config.json', () => {
  it('says what its top level and then its text_config say', () => {
    const fields = generationFields({
      model_type: 'x',
      num_experts: 4,
      eos_token_id: null,
      temperature: 0.3,
      text_config: { eos_token_id: [7, 8], temperature: 0.9, pad_token_id: 7, top_k: null, num_beams: 2 },
    });
    expect(fields).toEqual({ eos_token_id: [7, 8], temperature: 0.3, pad_token_id: 7, num_beams: 2 });
  });
});

describe('levels of parameters', () => {
  it('are taken in order of strength, each parameter by itself', () => {
    const resolved = resolveParameters([
      { doSample: true, temperature: 2 },
      { temperature: 3, topK: 4 },
      { topK: 5, topP: 0.5 },
    ]);
    expect(resolved).toMatchObject({ temperature: 2, topK: 4, topP: 0.5, minP: 0 });
  });

  it('decide between bounds on length by strength', () => {
    expect(resolveParameters([{ minNewTokens: 2 }, { minLength: 90 }])).toMatchObject({
      minNewTokens: 2,
      minLength: 0,
    });
    expect(resolveParameters([{ minLength: 9 }, { minNewTokens: 3 }])).toMatchObject({
      minNewTokens: 0,
      minLength: 9,
    });
    expect(resolveParameters([{ maxLength: 9 }, { maxNewTokens: 3 }])).toMatchObject({
      maxNewTokens: undefined,
      maxLength: 9,
    });
  });

  it('accept one end token or stop string as well as several', () => {
    expect(resolveParameters([{ eosTokenId: 3, stopStrings: 'x' }])).toMatchObject({
      eosTokenIds: [3],
      padTokenId: 3,
      stopStrings: ['x'],
    });
  });
});
