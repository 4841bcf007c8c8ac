import { describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import { ConfigError } from '../../src/errors.ts';
import { declaredDtype } from '../../src/models/config.ts';
import { mropeAxes, parseQwen3Vl } from '../../src/models/qwen3_vl_moe/config.ts';

const FAMILIES = ['qwen2_moe', 'qwen3_moe', 'qwen3_vl_moe'];
/** A config.json of a family, with fields where its text settings lie. */
function parse(modelType: string, fields: object) {
  const json = modelType === 'qwen3_vl_moe' ? { text_config: fields } : fields;
  return findArchitecture({ model_type: modelType }, 'config.json').parse(
    { model_type: modelType, ...json },
    'config.json',
  );
}

describe('the declared dtype', () => {
  it.each([
    ['float32', 'float32'],
    ['float', 'float32'],
    ['torch.float16', 'float16'],
    ['half', 'float16'],
    ['torch.bfloat16', 'bfloat16'],
    ['auto', undefined],
    [null, undefined],
  ])('%s is %s', (word, dtype) => {
    expect(declaredDtype({ torch_dtype: word }, 'config.json')).toEqual({ dtype });
  });

  it.each(['float64', 'torch.double', 'fp8', 7, ['float32'], ''])(
    '%j is a fault for those who go by it',
    (word) => {
      const { dtype, fault } = declaredDtype(
        { dtype: word, torch_dtype: 'float32' },
        'config.json',
        'text_config.',
      );
      expect(dtype).toBeUndefined();
      expect(fault).toMatch(
        /^config\.json: text_config\.dtype is .*; expected one of float32, bfloat16, float16$/,
      );
    },
  );

  it('of the text part counts before that of the whole', () => {
    const vl = (text: object, whole: object) =>
      findArchitecture({ model_type: 'qwen3_vl_moe' }, 'c').parse(
        { text_config: { hidden_size: 3584, ...text }, ...whole },
        'c',
      ).declared.dtype;
    expect(vl({ dtype: 'half' }, { dtype: 'float32' })).toBe('float16');
    expect(vl({}, { torch_dtype: 'bfloat16' })).toBe('bfloat16');
    expect(vl({ dtype: 'float64' }, { dtype: 'float32' })).toBeUndefined();
  });
});

describe.each(FAMILIES)('config.json of %s', (modelType) => {
  const at = modelType === 'qwen3_vl_moe' ? 'text_config\\.' : '';

  it.each([
    'hidden_size',
    'num_hidden_layers',
    'vocab_size',
    'num_experts',
    'num_attention_heads',
    'rms_norm_eps',
  ])('is refused where %s is null: there is no default for a size of this model', (field) => {
    const use = () => parse(modelType, { [field]: null });
    expect(use).toThrow(ConfigError);
    expect(use).toThrow(new RegExp(`config\\.json: ${at}${field} is null; expected a`));
  });

  it.each<[string, unknown]>([
    ['num_hidden_layers', 1e9],
    ['num_hidden_layers', 1e5],
    ['hidden_size', Number.NaN],
    ['vocab_size', Number.POSITIVE_INFINITY],
    ['head_dim', 2 ** 30],
    ['rms_norm_eps', 'small'],
    ['mlp_only_layers', [1.5]],
  ])('is refused where %s is %s, at once', (field, value) => {
    expect(() => parse(modelType, { [field]: value })).toThrow(new RegExp(`config\\.json: ${at}${field}`));
  });
});

it.each([
  { rope_theta: 1e-300 },
  { rope_parameters: { rope_type: 'linear', factor: 1e-42 } },
  { rope_theta: 1, rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 4096 } },
])('a rope whose angles no number can hold is refused: %j', (rope) => {
  const use = () => findArchitecture({ model_type: 'qwen3_moe' }, 'x').parse(rope, 'config.json');
  expect(use).toThrow(
    /config\.json: rope_\w+ is \{"rope_theta":.*; expected numbers that give angles in float32/,
  );
});

describe('the sections of a rope with three axes', () => {
  const parse = (rope: object) =>
    parseQwen3Vl({ text_config: { hidden_size: 3584, ...rope } }, 'config.json');
  const sections = { mrope_section: [4, 2, 2] };

  it.each([
    { rope_scaling: sections },
    { rope_parameters: sections },
    { rope_scaling: {}, rope_parameters: sections },
    { rope_scaling: null, rope_parameters: sections },
  ])('are of the dictionary in force: %j', (rope) => {
    expect(parse(rope).ropeAxes).toEqual(mropeAxes(112, [4, 2, 2]));
  });

  it('are those of the class where the file has none', () => {
    expect(parse({}).ropeAxes).toEqual(mropeAxes(112, [24, 20, 20]));
  });

  it('that cannot be are refused by the name the file has for them', () => {
    const use = () => parse({ rope_scaling: {}, rope_parameters: { mrope_section: [4, 2] } });
    expect(use).toThrow(ConfigError);
    expect(use).toThrow(
      /config\.json: text_config\.rope_parameters\.mrope_section is .*; expected three sizes/,
    );
  });
});
