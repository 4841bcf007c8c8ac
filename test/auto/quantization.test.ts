import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findQuantization, openQuantization } from '../../src/auto/quantization.ts';
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
  it.each<[string, object, string]>([
    ['fp8', { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [128, 128] }, 'fp8'],
    ['gptq', { quant_method: 'gptq', bits: 4, desc_act: false }, 'gptq'],
    ['gptq without a name', { bits: 4, group_size: 128, desc_act: false }, 'gptq'],
    ['bitsandbytes without a name', { load_in_8bit: true }, 'bitsandbytes'],
    [
      'compressed-tensors',
      { quant_method: 'compressed-tensors', config_groups: { group_0: group } },
      'compressed-tensors',
    ],
    ['MLX', { group_size: 64, bits: 6 }, 'mlx'],
    ['ModelOpt without a name', { quant_algo: 'FP8' }, 'modelopt'],
    ['a word alone', 'fp8' as never, 'fp8'],
    ['something new', { quant_method: 'sparkle' }, 'sparkle'],
  ])('%s', async (_, settings, method) => {
    for (const [json, field] of [
      [{ quantization_config: settings }, 'quantization_config'],
      [{ text_config: { quantization_config: settings } }, 'text_config.quantization_config'],
    ] as const) {
      const found = await findQuantization(repoWith({}), json);
      expect(found).toMatchObject({ method, file: 'config.json', field });
    }
  });

  it('may stand under other names', async () => {
    const found = await findQuantization(repoWith({}), { quantization: { group_size: 64, bits: 4 } });
    expect(found).toMatchObject({ method: 'mlx', field: 'quantization' });
    const compression = { compression_config: { format: 'float-quantized' } };
    expect(await findQuantization(repoWith({}), compression)).toMatchObject({
      method: 'compressed-tensors',
      field: 'compression_config',
    });
  });

  it.each<[string, object, string]>([
    ['quantize_config.json', { bits: 4, group_size: 128, desc_act: true }, 'gptq'],
    ['quant_config.json', { zero_point: true, q_group_size: 128, w_bit: 4, version: 'GEMM' }, 'awq'],
    [
      'hf_quant_config.json',
      { producer: { name: 'modelopt' }, quantization: { quant_algo: 'NVFP4' } },
      'modelopt',
    ],
  ])('may stand in %s alone', async (file, settings, method) => {
    const found = await findQuantization(repoWith({ [file]: settings }), { model_type: 'qwen3_moe' });
    expect(found?.method).toBe(method);
    expect(found?.file).toMatch(new RegExp(`${file}$`));
  });

  it.each([
    {},
    { quantization_config: null },
    { quantization_config: {} },
    { text_config: null, vision_config: 3 },
  ])('is nothing in %j', async (json) => {
    expect(await findQuantization(repoWith({}), json)).toBeUndefined();
    expect(await openQuantization(repoWith({}), json)).toBeUndefined();
  });

  it('is refused where it has fields of no known tool, which are named', async () => {
    const json = { quantization_config: { modules_to_not_convert: [] } };
    await expect(findQuantization(repoWith({}), json)).rejects.toThrow(
      /config\.json: quantization_config\.quant_method is not given.*modules_to_not_convert/,
    );
  });
});

it.each([
  ['hqq', { quant_config: { weight_quant_params: { nbits: 3 } } }],
  ['torchao', { quant_type: 'int8_weight_only' }],
  ['gtpq', { bits: 4 }],
])(
  '%s is refused by its name with the list of what can be read, before weights are looked for',
  async (method, rest) => {
    const quantization_config = { quant_method: method, ...rest };
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
        new RegExp(
          `config\\.json: .*quant_method is "${method}", which cannot be read.*fp8, gptq, awq.*bfloat16`,
        ),
      );
      const slip =
        method === 'gtpq' ? /awq, .*\. Did you mean "gptq"\? Take another/ : /, quark\. Take another/;
      expect((error as Error).message).toMatch(slip);
    }
  },
);
