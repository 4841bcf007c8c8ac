import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import {
  AutoConfig,
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  ConfigError,
} from '../../src/index.ts';

function refusalOf(modelType: string): string {
  try {
    findArchitecture({ model_type: modelType }, 'config.json');
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error(`${modelType} is supported`);
}

describe('an architecture that is not supported', () => {
  it.each([
    ['qwen3_vl', '"qwen3_vl" is the dense sibling of qwen3_vl_moe, which is supported'],
    ['qwen3_vl_text', '"qwen3_vl" is the dense sibling of qwen3_vl_moe, which is supported'],
    ['qwen3_omni', '"qwen3_omni" is the dense sibling of qwen3_omni_moe, which is supported'],
    [
      'qwen2_5_vl',
      'nearest type that is supported is qwen3_vl_moe, which is of generation 3 instead of 2.5 and has experts',
    ],
    [
      'qwen2_vl',
      'nearest type that is supported is qwen3_vl_moe, which is of generation 3 instead of 2 and has experts',
    ],
    [
      'qwen2_5_omni',
      'nearest type that is supported is qwen3_omni_moe, which is of generation 3 instead of 2.5 and has experts',
    ],
    [
      'qwen2_audio',
      'nearest type that is supported is qwen3_omni_moe, which is of generation 3 instead of 2, sees and has experts',
    ],
    ['qwen3_asr', 'nearest type that is supported is qwen3_omni_moe, which sees and has experts'],
    [
      'qwen3_6_moe',
      'nearest type that is supported is qwen3_5_moe, which is of generation 3.5 instead of 3.6',
    ],
    ['qwen3_7', 'nearest type that is supported is qwen3_5, which is of generation 3.5 instead of 3.7'],
    ['qwen4_exp_vision', 'a part of qwen4_exp, which is supported as a whole'],
    ['qwen3_vl_moe_text', 'a part of qwen3_vl_moe, which is supported as a whole'],
    ['qwen3_omni_moe_talker_code_predictor', 'a part of qwen3_omni_moe, which is supported as a whole'],
    ['qwen', 'nearest type that is supported is qwen2, which is of generation 2 instead of 1'],
  ])('%s is led to the nearest', (modelType, near) => {
    const refusal = refusalOf(modelType);
    expect(refusal).toContain(
      `config.json: model_type is "${modelType}", which Switchyard does not know; supported are qwen2, `,
    );
    expect(refusal).toContain(near);
    expect(refusal).toContain('"switchyard models" lists some that can');
    expect(refusal).not.toContain('Did you mean');
  });

  it.each([
    ['qwen3_mo', 'qwen3_moe'],
    ['qwen3-vl-moe', 'qwen3_vl_moe'],
  ])('a slip like %s is corrected', (modelType, meant) => {
    expect(refusalOf(modelType)).toMatch(new RegExp(`Did you mean "${meant}"\\?$`));
  });

  it('of other families is near to none', () => {
    for (const modelType of ['llama', 'mixtral', 'deepseek_v3', 'colqwen2'])
      expect(refusalOf(modelType)).not.toMatch(/nearest|sibling|Did you mean/);
  });

  it('is refused so by whatever loads it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'near-'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ model_type: 'qwen3_vl', text_config: {} }));
    for (const load of [AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText])
      await expect(load.fromPretrained(folder)).rejects.toThrow(/dense sibling of qwen3_vl_moe/);
  });
});
