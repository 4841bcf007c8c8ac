/** What Qwen4 has besides other hybrid models: residual streams, a sparse index, a memory of n-grams. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import { AutoModelForCausalLM, CheckpointError, ConfigError, type LoadOptions } from '../../src/index.ts';
import { parseTextConfig } from '../../src/models/qwen4_exp/config.ts';
import { defaultHashes } from '../../src/nn/ngram-table.ts';
import { goldenModel, maxDifference, textGolden } from '../helpers/goldens.ts';

const FOLDER = goldenModel('qwen4_exp_k');
const SHARD = 'model-00002-of-00002.safetensors';
const INDEX = { indexer_n_heads: 4, indexer_head_dim: 128, indexer_budget: 2048, indexer_compress_ratio: 4 };
/** What `_build_layer_multipliers` and `_find_nth_prime_after` of transformers 5.18 give for the first memories of a large model. */
const LARGE = [
  [23703573157769n, 20109073645365n, 8052911324071n],
  [3352040966061n, 19752442147475n, 10742103100073n],
];
const LARGE_SIZES = [20000213n, 20000221n];
const MEMORY = { ple_layer_ids: [2], eos_token_id: 5 };

describe('config.json of qwen4_exp', () => {
  const parse = (fields: object) =>
    parseTextConfig({ ...INDEX, ...MEMORY, ...fields }, 'config.json', 'text_config');

  it('knows indexed attention by two names, and keeps a key of the index for each position', () => {
    const layer_types = ['linear_attention', 'indexed_attention', 'linear_attention', 'full_attention'];
    const fields = { num_hidden_layers: 4, layer_types, ple_layer_ids: [3, 1, 3] };
    const config = parse(fields);
    expect(config.isLinear).toEqual([true, false, true, false]);
    expect(config.memoryLayers).toEqual([0, 2]);
    const json = { ...INDEX, ...MEMORY, ...fields, model_type: 'qwen4_exp_text', hidden_size: 64 };
    const { caches, residualSize, precedingIds, positionBlock } = findArchitecture(json, 'c').parse(
      json,
      'c',
    );
    expect(caches[1]).toMatchObject({ kind: 'keys_values', indexDim: 128 });
    expect(caches[0]).toMatchObject({ kind: 'recurrent', states: { memory: [9, 256] } });
    expect({ residualSize, precedingIds, positionBlock }).toEqual({
      ...{ residualSize: 256, precedingIds: 2, positionBlock: 4 },
    });
  });

  it.each<[object, RegExp]>([
    [{ indexer_n_heads: null }, /text_config\.indexer_n_heads/],
    [{ indexer_compress_ratio: 3 }, /indexer_compress_ratio is 3/],
    [{ indexer_budget: 2047 }, /indexer_budget is 2047; expected a multiple of indexer_compress_ratio \(4\)/],
    [{ indexer_head_dim: 32 }, /indexer_head_dim is 32; expected at least the 64 dimensions/],
    [{ hc_count: 1 }, /hc_count is 1/],
    [{ output_gate_type: 'gelu' }, /output_gate_type is "gelu"/],
    [
      { ple_layer_ids: [4] },
      /ple_layer_ids is \[4\]; expected numbers from 1 on of layers of linear attention/,
    ],
    [{ ple_layer_ids: [99] }, /ple_layer_ids is \[99\]/],
    [{ ple_embed_dim: 100 }, /ple_embed_dim is 100; expected a multiple of .* \(16\)/],
    [{ eos_token_id: null }, /eos_token_id is .*expected the id that ends a text/],
    [{ layer_types: ['sliding_attention'], num_hidden_layers: 1 }, /layer_types\.0 is "sliding_attention"/],
    [{ ngram_vocab_size_base: 2 ** 31 - 1 }, /ngram_vocab_size_base/],
    [
      {
        num_hidden_layers: 99,
        ple_layer_ids: Array.from({ length: 66 }, (_, i) => i + 1 + Math.floor(i / 3)),
      },
      /heads_per_ngram is 8; expected at most 1024 heads in all: .* in 66 layers/,
    ],
    [{ ngram_size: 17 }, /ngram_size is 17/],
    [{ ple_layer_ids: Array(2049).fill(1) }, /ple_layer_ids is .* at most 2048 entries/],
    [{ hc_count: 17 }, /hc_count is 17/],
    [
      { linear_num_value_heads: 1024, linear_key_head_dim: 1024, linear_value_head_dim: 1024 },
      /linear_num_value_heads is 1024; expected at most 64 states of 1024 x 1024/,
    ],
  ])('is refused with %j', (fields, message) => {
    expect(() => parse(fields)).toThrow(ConfigError);
    expect(() => parse(fields)).toThrow(message);
  });
});

describe('the hashes of n-grams', () => {
  it('are those of transformers where the checkpoint does not say', async () => {
    const { text_config } = JSON.parse(await readFile(join(FOLDER, 'config.json'), 'utf8'));
    const config = parseTextConfig(text_config, 'config.json');
    expect(defaultHashes(config, 0)).toEqual(await storedHashes());
    const large = { ...config, vocab_size: 248_320, ngram_vocab_size_base: 20_000_000, heads_per_ngram: 8 };
    expect(defaultHashes(large, 0).multipliers).toEqual(LARGE[0]);
    expect(defaultHashes(large, 1).multipliers).toEqual(LARGE[1]);
    expect(defaultHashes(large, 1).sizes.slice(0, 2)).toEqual(LARGE_SIZES);
  });
});

describe('a checkpoint of qwen4_exp', () => {
  const folders: string[] = [];
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
  });
  /** A copy with a tensor under another name of the same length. */
  const renamed = async (from: string, to: string): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-qwen4-'));
    folders.push(folder);
    await cp(FOLDER, folder, { recursive: true });
    for (const file of ['model-00001-of-00002.safetensors', SHARD, 'model.safetensors.index.json']) {
      const text = await readFile(join(folder, file), 'latin1');
      await writeFile(join(folder, file), text.replaceAll(from, to), 'latin1');
    }
    return folder;
  };
  const load = (folder: string, options: LoadOptions = {}) =>
    AutoModelForCausalLM.fromPretrained(folder, { dtype: 'float32', threads: 2, ...options });
  const { golden, tensor } = textGolden('qwen4_exp_k');
  const prompt = golden.prompts[3] as (typeof golden.prompts)[number];

  it('opens without a word about its draft layers and its tower, and computes with hashes of its own where it has none', async () => {
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const whole = await load(FOLDER, { onWarning });
    await whole.dispose();
    expect(warnings).toEqual([]);
    const model = await load(await renamed('layer_multipliers', 'layer_multipliars'), { onWarning });
    expect(warnings).toEqual([expect.stringContaining('layer_multipliars')]);
    const { logits } = await model.forward({ inputIds: [prompt.input_ids], logitsToKeep: 1 });
    const expected = tensor(`${prompt.name}.logits_last`)?.data as Float32Array;
    expect(maxDifference(logits.data as Float32Array, expected)).toBeLessThan(1e-4);
    await model.dispose();
  });

  it('is refused where a part of the memory is missing, or its hashes are of another kind', async () => {
    const without = await renamed('ngram_embedding.shard_7.', 'ngram_embedding.shard_X.');
    await expect(load(without)).rejects.toThrow(CheckpointError);
    await expect(load(without)).rejects.toThrow(/missing: .*ngram_embedding\.shard_7\.weight/);
    await expect(
      load(FOLDER, { config: { text_config: await textConfig({ ngram_size: 5 }) } }),
    ).rejects.toThrow(/layer_multipliers in .* has dtype I64 and shape \[3\]; expected I64 \[5\]/);
  });

  it('is refused where hashes lead out of the table', async () => {
    const folder = await renamed('no such name', 'no such name');
    const { header, start, bytes } = await readShard(join(folder, SHARD));
    const name = 'model.language_model.layers.1.ple.ple_embedding.ngram_heads_offsets';
    bytes.writeBigInt64LE(-1n, start + header[name].data_offsets[0]);
    await writeFile(join(folder, SHARD), bytes);
    await expect(load(folder)).rejects.toThrow(
      /ngram_heads_offsets give head 0 the \d+ rows from row -1 on; expected some of the \d+ rows/,
    );
  });

  it('gives the same logits for a prompt in passes of any length, across blocks of its index', async () => {
    const { engine, release } = await loadModel(FOLDER, { dtype: 'float32', threads: 2 }, 'logits');
    const ids = prompt.input_ids;
    const run = async (cuts: readonly number[]) => {
      const sequence = engine.open({ ids });
      const all: number[] = [];
      for (const [i, to] of cuts.entries()) {
        const chunks = [{ sequence, tokens: to - (cuts[i - 1] ?? 0) }];
        const kind = 'grouped_mm';
        const { outputs } = await engine.run({
          ...{ chunks, experts: kind, kind, head: 'logits', intermediates: false },
          wanted: () => true,
        });
        all.push(...((outputs.logits as { data: unknown }).data as Float32Array));
      }
      engine.close(sequence);
      return all;
    };
    const whole = await run([ids.length]);
    const expected = tensor(`${prompt.name}.logits_last`)?.data as Float32Array;
    expect(maxDifference(whole.slice(-expected.length), expected)).toBeLessThan(1e-4);
    for (const cuts of [
      [1, 2, 3, 5, 8, 21, 22, 63, 65, 99, 100],
      [37, 38, 42, 100],
    ])
      expect(maxDifference(await run(cuts), whole)).toBeLessThan(1e-4);
    await release();
  });
});

async function textConfig(fields: object): Promise<object> {
  const { text_config } = JSON.parse(await readFile(join(FOLDER, 'config.json'), 'utf8'));
  return { ...text_config, ...fields };
}

async function readShard(file: string) {
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString('utf8', 8, 8 + length)), start: 8 + length, bytes };
}

/** The hashes that the checkpoint stores. */
async function storedHashes() {
  const { header, start, bytes } = await readShard(join(FOLDER, SHARD));
  const read = (name: string) => {
    const [from, to] = header[`model.language_model.layers.1.ple.ple_embedding.${name}`].data_offsets;
    const at = (i: number) => bytes.readBigInt64LE(start + from + 8 * i);
    return Array.from({ length: (to - from) / 8 }, (_, i) => at(i));
  };
  return {
    multipliers: read('layer_multipliers'),
    sizes: read('ngram_heads_vocab_sizes'),
    offsets: read('ngram_heads_offsets'),
  };
}
