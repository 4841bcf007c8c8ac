import { describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import { ConfigError } from '../../src/errors.ts';
import { AutoModelForCausalLM } from '../../src/index.ts';
import { parseQwen35, parseTextConfig } from '../../src/models/qwen3_5_moe/config.ts';
import { goldenModel } from '../helpers/goldens.ts';

const FAMILIES = ['qwen3_next', 'qwen3_5_moe_text', 'qwen3_5_moe'];
/** A config.json of a family, with fields where its text settings lie. */
function parse(modelType: string, fields: object) {
  const vision = { vision_config: { out_hidden_size: 2048 } };
  const json = modelType === 'qwen3_5_moe' ? { text_config: fields, ...vision } : fields;
  return findArchitecture({ model_type: modelType }, 'config.json').parse(
    { model_type: modelType, ...json },
    'config.json',
  );
}
const rope = (fields: object) => parseTextConfig({ head_dim: 64, ...fields }, 'config.json', 'moe').rope;

describe.each(FAMILIES)('config.json of %s', (modelType) => {
  const at = modelType === 'qwen3_5_moe' ? 'text_config\\.' : '';
  const kinds = (fields: object) => parse(modelType, fields).caches.map(({ kind }) => kind);

  it('makes every fourth layer one of full attention, unless it says otherwise', () => {
    const [linear, full] = ['recurrent', 'keys_values'];
    expect(kinds({ num_hidden_layers: 5 })).toEqual([linear, linear, linear, full, linear]);
    expect(kinds({ num_hidden_layers: 3, full_attention_interval: 2 })).toEqual([linear, full, linear]);
    const layer_types = ['full_attention', 'linear_attention'];
    expect(kinds({ num_hidden_layers: 2, layer_types, full_attention_interval: 1 })).toEqual([full, linear]);
  });

  it('says what a linear layer keeps of a sequence, whatever its length', () => {
    const { caches, work } = parse(modelType, { linear_num_value_heads: 32, linear_conv_kernel_dim: 3 });
    expect(caches[0]).toEqual({ kind: 'recurrent', states: { conv: [2, 8192], state: [32, 128, 128] } });
    expect(work.attention.slice(0, 4)).toEqual([0, 0, 0, 2 * 16 * 256]);
  });

  it.each<[string, unknown, RegExp | string]>([
    ['layer_types', ['linear_attention'], 'expected (40|48) entries'],
    ['layer_types', 'all', 'expected an array|a list'],
    ['linear_num_value_heads', 24, 'expected a multiple of linear_num_key_heads \\(16\\)'],
    ['linear_num_key_heads', 0, ''],
    ['linear_key_head_dim', 2 ** 20, ''],
    ['linear_conv_kernel_dim', 1, ''],
    ['linear_conv_kernel_dim', 1e6, ''],
    ['full_attention_interval', 0, ''],
    ['partial_rotary_factor', 1.5, 'at most 1'],
    ['partial_rotary_factor', 1e-3, 'at least 1 / head_dim'],
  ])('is refused where %s is %j', (field, value, wanted) => {
    const use = () => parse(modelType, { [field]: value });
    expect(use).toThrow(ConfigError);
    expect(use).toThrow(new RegExp(`config\\.json: ${at}${field} is .*${wanted}`));
  });

  it('names the layer whose kind nobody knows', () => {
    const use = () => parse(modelType, { num_hidden_layers: 2, layer_types: ['full_attention', 'mamba'] });
    expect(use).toThrow(`layer_types.1 is "mamba"; expected full_attention or linear_attention`);
  });
});

describe('the rope of a hybrid model', () => {
  it.each<[string, object, number]>([
    ['a quarter of a head by itself', {}, 16],
    ['a quarter where the dictionary says nothing', { rope_parameters: { rope_theta: 1e7 } }, 16],
    ['what the top level says', { partial_rotary_factor: 0.5 }, 32],
    [
      'what the dictionary says first',
      { partial_rotary_factor: 1, rope_parameters: { partial_rotary_factor: 0.5 } },
      32,
    ],
    ['whole pairs', { head_dim: 20 }, 6],
  ])('turns %s', (_, fields, dimensions) => {
    expect(rope(fields).inverseFrequencies).toHaveLength(dimensions / 2);
  });

  it('has its frequencies over the dimensions that it turns', () => {
    const [first, second] = rope({ rope_theta: 10_000 }).inverseFrequencies;
    expect(first).toBe(1);
    expect(second).toBeCloseTo(10_000 ** (-2 / 16), 6);
  });
});

describe('Qwen3.5', () => {
  const nested = (fields: object) =>
    parseQwen35({ vision_config: { out_hidden_size: 2048 }, ...fields }, 'c', 'moe');

  it('divides the routing weights by their sum and has no dense layer, whatever its config says', () => {
    const fields = { norm_topk_prob: false, mlp_only_layers: [0], decoder_sparse_step: 2 };
    const config = parseTextConfig({ num_hidden_layers: 2, ...fields }, 'c', 'moe');
    expect(config.norm_topk_prob).toBe(true);
    expect(config.isSparse).toEqual([true, true]);
  });

  it.each([
    [{ tie_word_embeddings: true }, true],
    [{ text_config: { tie_word_embeddings: true } }, true],
    [{}, false],
  ])('ties its tables where either level says so: %j', (fields, isTied) => {
    expect(nested(fields).text.tie_word_embeddings).toBe(isTied);
  });

  it('interleaves the axes of its positions as far as its heads have pairs', () => {
    const axes = (fields: object) => nested({ text_config: fields }).ropeAxes;
    expect(axes({ head_dim: 32 })).toEqual([0, 1, 2, 0]);
    expect(axes({ head_dim: 32, rope_parameters: { mrope_section: [2, 1, 1] } })).toEqual([0, 1, 2, 0]);
    expect(axes({}).filter((axis) => axis === 1)).toHaveLength(11);
    expect(() => axes({ rope_parameters: { mrope_section: [2, 1] } })).toThrow(
      /text_config\.rope_parameters\.mrope_section is .*; expected three sizes/,
    );
  });

  it('finds its tensors under the prefix of either class', () => {
    const [text, whole] = [parse('qwen3_5_moe_text', {}), parse('qwen3_5_moe', {})];
    for (const prefix of [
      '',
      'model.',
      'model.language_model.',
      'language_model.',
      'language_model.model.',
    ]) {
      expect(text.canonicalName(`${prefix}layers.0.mlp.gate.weight`)).toBe('model.layers.0.mlp.gate.weight');
      expect(whole.canonicalName(`${prefix}norm.weight`)).toBe('model.language_model.norm.weight');
    }
    // As transformers saves the text model.
    const last = 'hyper_connection_mixer.hc_norm.weight';
    expect(text.canonicalName(`model.language_model.${last}`)).toBe(`model.${last}`);
    expect(whole.canonicalName('mtp.norm.weight')).toBe('mtp.norm.weight');
    expect(whole.canonicalName('lm_head.weight')).toBe('lm_head.weight');
    expect(whole.canonicalName('visual.pos_embed.weight')).toBe('model.visual.pos_embed.weight');
  });

  it('knows what it leaves unread', () => {
    const text = parse('qwen3_5_moe_text', {});
    expect(text.work.use('mtp.layers.0.mlp.experts.down_proj').part).toBe('unread');
    expect(text.work.use('model.visual.blocks.0.norm1.weight').part).toBe('unread');
    const whole = parse('qwen3_5_moe', {});
    expect(whole.work.use('model.visual.blocks.0.norm1.weight').part).toBe('tower');
    expect(whole.languageModel?.work.use('model.visual.blocks.0.norm1.weight').part).toBe('unread');
  });

  it('opens as a text model without a warning, and takes backends by the keys of its own config', async () => {
    const warnings: string[] = [];
    const model = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_5_moe_j'), {
      threads: 1,
      expertsImplementation: { text_config: 'eager' },
      onWarning: (message) => warnings.push(message),
    });
    expect(model.getExpertsImplementation().text_config).toBe('eager');
    expect(warnings).toEqual([]);
    await model.dispose();
  });
});
