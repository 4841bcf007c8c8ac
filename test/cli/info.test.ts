import { statSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { formatCount } from '../../src/cli/format.ts';
import { countParameters } from '../../src/cli/model-info.ts';
import { tensorUse } from '../../src/models/tensor-use.ts';
import { DEMO_FOLDER, goldenModel } from '../helpers/goldens.ts';
import { FakeHub, type FakeRepo } from '../hub/fake-hub.ts';
import { startOver } from '../hub/helpers.ts';
import { run } from './capture.ts';

vi.mock(import('../../src/runtime/machine.ts'), async (original) => {
  const { briefly } = await import('../helpers/brief-measurements.ts');
  return briefly(await original());
});

const info = async (model: string) => JSON.parse((await run(['info', model, '--json'])).stdout);

describe('switchyard info', () => {
  test('counts the parameters of a qwen2_moe checkpoint, in all and at work on a token', async () => {
    const [vocab, hidden, layers, experts, topK] = [1024, 64, 4, 8, 4];
    const attention = 4 * hidden * hidden + 3 * hidden;
    const expert = 3 * hidden * 32;
    const shared = 3 * hidden * 80 + hidden;
    const layer = (working: number) => attention + hidden * experts + working * expert + shared + 2 * hidden;
    const outside = 2 * vocab * hidden + hidden;
    const found = await info(goldenModel('qwen2_moe_a'));
    expect(found.parameters).toEqual({
      total: layers * layer(experts) + outside,
      active: layers * layer(topK) + outside,
    });
  });

  test('knows the demo by its name, as verify does', async () => {
    expect((await info('demo')).parameters).toEqual((await info(DEMO_FOLDER)).parameters);
    expect((await run(['verify', 'demo'])).exitCode).toBe(0);
  });

  test('prints one JSON object', async () => {
    const folder = goldenModel('qwen2_moe_a');
    const names = [1, 2, 3].map((n) => `model-0000${n}-of-00003.safetensors`);
    const { fit, ...found } = await info(folder);
    expect(fit).toMatchObject({ fits: true, fromDisk: 0, needs: { positions: 512 } });
    expect(found).toEqual({
      model: folder,
      architecture: 'qwen2_moe',
      parameters: { total: 458304, active: 360000 },
      layers: 4,
      moeLayers: 4,
      experts: 8,
      expertsPerToken: 4,
      hiddenSize: 64,
      vocabSize: 1024,
      contextLength: 512,
      dtype: 'bfloat16',
      bitsPerWeight: 16,
      bytesPerDecodedToken: 588800,
      reading: 'in place',
      files: names.map((name) => ({ name, bytes: statSync(join(folder, name)).size })),
    });
  });

  test('tells how a quantized checkpoint is stored, and what a token reads of it', async () => {
    const folder = join(goldenModel(''), '../quantized/qwen3_moe_gptq');
    expect(await info(folder)).toMatchObject({ dtype: 'int4', quantization: 'gptq' });
    const { stdout } = await run(['info', folder]);
    expect(stdout).toMatch(/^dtype +int4, quantized as gptq$/m);
    expect(stdout).toMatch(/^weights +\d\.\d+ bits each, read in place, .* for a decoded token$/m);
  });

  test('tells dense layers from those with experts', async () => {
    const found = await info(goldenModel('qwen2_moe_b'));
    expect(found).toMatchObject({
      layers: 6,
      moeLayers: 2,
      experts: 6,
      expertsPerToken: 2,
      dtype: 'float32',
    });
  });

  test.each([
    ...['qwen2_moe_a', 'qwen2_moe_b', 'qwen3_moe_c', 'qwen3_moe_d', 'qwen3_vl_moe_e'],
    ...['qwen3_next_g', 'qwen3_next_h', 'qwen3_5_moe_text_i', 'qwen3_5_moe_j', 'qwen4_exp_k'],
  ])('counts the parameters of %s from config.json alone, too', async (name) => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-info-'));
    await copyFile(join(goldenModel(name), 'config.json'), join(folder, 'config.json'));
    const { fit: fitOfConfig, ...bare } = await info(folder);
    const { bitsPerWeight, bytesPerDecodedToken, reading, fit, ...full } = await info(goldenModel(name));
    const { stdout } = await run(['info', folder]);
    await rm(folder, { recursive: true });
    expect(bare).toEqual({ ...full, model: folder, files: [] });
    expect(fitOfConfig.needs.cache).toBe(fit.needs.cache);
    // Some families store a few vectors in float32.
    expect(fitOfConfig.needs.weights / fit.needs.weights).toBeCloseTo(1, 2);
    expect(stdout).toMatch(/^size +the weights are not on this disk$/m);
  });

  test.each([
    ['Qwen1.5-MoE-A2.7B', { model_type: 'qwen2_moe' }, 14_315_784_192],
    ['Qwen3-30B-A3B', { model_type: 'qwen3_moe', num_hidden_layers: 48, head_dim: 128 }, 30_532_122_624],
  ])('agrees with the published size of %s', async (_, config, total) => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-info-'));
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    const found = await info(folder);
    await rm(folder, { recursive: true });
    expect(found.parameters.total).toBe(total);
  });

  test('describes the demo model to people', async () => {
    const { exitCode, stdout, stderr } = await run(['info', DEMO_FOLDER]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(/^architecture +qwen3_moe$/m);
    expect(stdout).toMatch(/^parameters +2\.\d\d million in total, 1\.\d\d million active per token$/m);
    expect(stdout).toMatch(/^experts +16, 4 a token, in 5 of 5 layers$/m);
    expect(stdout).toMatch(/^context +1024 tokens$/m);
    expect(stdout).toMatch(/^size +5\.\d MB in 1 file$/m);
    expect(stdout).toMatch(/^ +model\.safetensors +5\.\d MB$/m);
    expect(stdout).toMatch(
      /^needs +5\.2 MB for the weights, 1\.3 MB for 1024 tokens of context, \d+ MB besides$/m,
    );
    expect(stdout).toMatch(/^fits +yes$/m);
    expect(stdout).toMatch(/^speed +up to \d+ tokens\/s: 2\.3 MB a token at \d.* as measured now$/m);
  });

  test('of a repo that is not here it says what the Hub has, what it needs and whether that fits; no weight is fetched', async () => {
    const hub = await FakeHub.start();
    try {
      const files: FakeRepo['files'] = {};
      for (const name of ['config.json', 'model.safetensors'])
        files[name] = {
          bytes: await readFile(join(DEMO_FOLDER, name)),
          ...(name !== 'config.json' && { kind: 'xet' as const }),
        };
      const cache = await startOver(hub, { 'acme/demo': { commit: '1'.repeat(40), files } });
      const { fit, ...found } = await info('acme/demo');
      expect(found.files).toEqual([]);
      const bytes = statSync(join(DEMO_FOLDER, 'model.safetensors')).size;
      expect(found.hub).toMatchObject({ bytes, files: [{ name: 'model.safetensors', bytes }] });
      expect(found.hub.folder.startsWith(cache)).toBe(true);
      expect(found.hub.freeBytes).toBeGreaterThan(0);
      expect(fit).toMatchObject({ fits: true, needs: { weights: 5_234_048 } });
      const { stdout } = await run(['info', 'acme/demo']);
      expect(stdout).toMatch(/^size +5\.3 MB in 1 file on the Hub, not on this disk; .* are free in /m);
      expect(hub.transfers().map(({ path }) => path)).toEqual(['config.json']);
    } finally {
      await hub.stop();
    }
  });

  test.each([
    ['a folder that is not there', './no/such/folder', /neither an existing folder/],
    ['a damaged checkpoint', join(goldenModel(''), '../malformed/st_body_cut'), /model\.safetensors/],
    [
      'an unknown architecture',
      join(goldenModel(''), '../malformed/config_model_type_unknown'),
      /model_type/,
    ],
  ])('%s is an error of the run', async (_, model, message) => {
    const { exitCode, stdout, stderr } = await run(['info', model]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toMatch(message);
  });

  test('wants a model', async () => {
    const { exitCode, stderr } = await run(['info']);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/missing required argument 'model'/);
  });
});

test('fused experts count by their share, a shared expert in full', () => {
  const tensor = (name: string, shape: number[]) => ({
    name,
    shape,
    file: '',
    offset: 0,
    byteLength: 0,
    dtype: 'BF16' as const,
  });
  const weights = [
    tensor('model.layers.0.mlp.experts.gate_up_proj', [8, 4, 6]),
    tensor('model.layers.0.mlp.experts.down_proj', [8, 6, 2]),
    tensor('model.layers.0.mlp.shared_expert.up_proj.weight', [2, 6]),
    tensor('model.layers.0.mlp.gate.weight', [8, 6]),
  ];
  const config = { num_experts: 8, num_experts_per_tok: 2 };
  const work = { attention: [], use: (name: string) => tensorUse(name, config, { prefix: 'model' }) };
  expect(countParameters(weights, work)).toEqual({
    total: 192 + 96 + 12 + 48,
    active: (192 + 96) / 4 + 12 + 48,
  });
});

test('numbers are written for people', () => {
  expect([12, 999_999, 2_703_360, 458_304_000, 14_315_784_192].map(formatCount)).toEqual([
    '12',
    '999999',
    '2.70 million',
    '458 million',
    '14.3 billion',
  ]);
});
