import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { parseGenerationConfig, resolveParameters } from '../../src/generation/generation-config.ts';

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
    [[], /g\.json must hold an object, but is \[\]/],
    [null, /must hold an object/],
    [{ do_sample: 'yes' }, /g\.json: do_sample is "yes"\. It must be true or false/],
    [{ eos_token_id: 'end' }, /g\.json: eos_token_id is "end"/],
    [{ eos_token_id: [3, -1] }, /eos_token_id is \[3,-1\]/],
    [{ num_beams: 4 }, /num_beams is 4\. Beam search is not supported/],
    [{ max_new_tokens: 1.5 }, /max_new_tokens is 1\.5/],
  ])('is refused where damaged: %j', (json, message) => {
    expect(() => parseGenerationConfig(json, 'g.json')).toThrow(ConfigError);
    expect(() => parseGenerationConfig(json, 'g.json')).toThrow(message);
  });
});

describe('levels of parameters', () => {
  it('are taken in order of strength, each parameter by itself', () => {
    const resolved = resolveParameters([
      { temperature: 2 },
      { temperature: 3, topK: 4 },
      { topK: 5, topP: 0.5 },
    ]);
    expect(resolved).toMatchObject({ temperature: 2, topK: 4, topP: 0.5, minP: 0 });
  });

  it('accept one end token or stop string as well as several', () => {
    expect(resolveParameters([{ eosTokenId: 3, stopStrings: 'x' }])).toMatchObject({
      eosTokenIds: [3],
      padTokenId: 3,
      stopStrings: ['x'],
    });
  });
});
