import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findQuantization, refuseQuantized } from '../../src/auto/quantization.ts';
import { ConfigError } from '../../src/errors.ts';
import { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import { AutoModelForCausalLM, AutoModelForImageTextToText } from '../../src/index.ts';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function repoWith(files: Record<string, unknown>): FolderRepo {
  const folder = mkdtempSync(join(tmpdir(), 'quantized-'));
  folders.push(folder);
  for (const [name, json] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(json));
  return new FolderRepo('some/model', folder);
}

describe('what a repo says of its quantization', () => {
  const group = { weights: { num_bits: 4, type: 'int', group_size: 128 }, targets: ['Linear'] };
  it.each<[string, object, string, number | undefined]>([
    ['fp8', { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [128, 128] }, 'fp8', 8],
    ['gptq', { quant_method: 'gptq', bits: 4, desc_act: false }, 'gptq', 4],
    ['awq', { quant_method: 'awq', bits: 4, version: 'gemm' }, 'awq', 4],
    [
      'bitsandbytes',
      { load_in_4bit: true, quant_method: 'bitsandbytes', bnb_4bit_quant_type: 'nf4' },
      'bitsandbytes',
      4,
    ],
    ['bitsandbytes without a name', { load_in_8bit: true }, 'bitsandbytes', 8],
    [
      'compressed-tensors',
      { quant_method: 'compressed-tensors', format: 'pack-quantized', config_groups: { group_0: group } },
      'compressed-tensors pack-quantized',
      4,
    ],
    ['mxfp4', { quant_method: 'mxfp4' }, 'mxfp4', 4],
    ['MLX', { group_size: 64, bits: 6 }, 'mlx', 6],
    ['NVFP4', { quant_method: 'modelopt', quant_algo: 'NVFP4' }, 'modelopt NVFP4', 4],
    ['quanto', { quant_method: 'quanto', weights: 'int8' }, 'quanto', 8],
    [
      'torchao',
      { quant_method: 'torchao', quant_type: { default: { _type: 'Int4WeightOnlyConfig' } } },
      'torchao',
      4,
    ],
    ['torchao in a word', { quant_method: 'torchao', quant_type: 'int8_weight_only' }, 'torchao', 8],
    [
      'AutoRound',
      { quant_method: 'auto-round', bits: 4, packing_format: 'auto_round:auto_gptq' },
      'auto-round',
      4,
    ],
    ['HQQ', { quant_method: 'hqq', quant_config: { weight_quant_params: { nbits: 3 } } }, 'hqq', 3],
    ['a word alone', 'fp8' as never, 'fp8', 8],
    ['something new', { quant_method: 'sparkle' }, 'sparkle', undefined],
    ['something nameless', { modules_to_not_convert: [] }, 'an unnamed method', undefined],
  ])('%s', async (_, settings, method, bits) => {
    for (const json of [
      { quantization_config: settings },
      { text_config: { quantization_config: settings } },
    ]) {
      const found = await findQuantization(repoWith({}), json);
      expect(found).toMatchObject({ method, bits });
      expect(found?.source).toMatch(/^config\.json: (?:text_config\.)?quantization_config$/);
    }
  });

  it('may stand under other names', async () => {
    expect(await findQuantization(repoWith({}), { quantization: { group_size: 64, bits: 4 } })).toMatchObject(
      { method: 'mlx', bits: 4 },
    );
    const compression = {
      compression_config: { quant_method: 'compressed-tensors', format: 'float-quantized' },
    };
    expect((await findQuantization(repoWith({}), compression))?.method).toBe(
      'compressed-tensors float-quantized',
    );
  });

  it.each<[string, object, string, number]>([
    ['quantize_config.json', { bits: 4, group_size: 128, desc_act: true }, 'gptq', 4],
    ['quant_config.json', { zero_point: true, q_group_size: 128, w_bit: 4, version: 'GEMM' }, 'awq', 4],
    [
      'hf_quant_config.json',
      { producer: { name: 'modelopt' }, quantization: { quant_algo: 'NVFP4' } },
      'modelopt NVFP4',
      4,
    ],
  ])('may stand in %s alone', async (file, settings, method, bits) => {
    const found = await findQuantization(repoWith({ [file]: settings }), { model_type: 'qwen3_moe' });
    expect(found).toMatchObject({ method, bits });
    expect(found?.source).toMatch(new RegExp(`${file}$`));
  });

  it.each([
    {},
    { quantization_config: null },
    { quantization_config: {} },
    { text_config: null, vision_config: 3 },
  ])('is nothing in %j', async (json) => {
    expect(await findQuantization(repoWith({}), json)).toBeUndefined();
    await refuseQuantized(repoWith({}), json);
  });
});

it('a quantized model is refused by its name, method and bits, before its weights are looked for', async () => {
  const quantization_config = { quant_method: 'gptq', bits: 4 };
  const text = repoWith({ 'config.json': { model_type: 'qwen3_moe', quantization_config } });
  const vl = repoWith({
    'config.json': { model_type: 'qwen3_vl_moe', text_config: { hidden_size: 3584, quantization_config } },
  });
  for (const [auto, repo] of [
    [AutoModelForCausalLM, text],
    [AutoModelForImageTextToText, vl],
  ] as const) {
    const error = await auto.fromPretrained(repo.folder).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toMatch(
      /is quantized \(gptq, 4 bits\), which is not supported: config\.json: .*bfloat16/,
    );
  }
});
