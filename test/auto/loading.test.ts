import {
  closeSync,
  cpSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, test, vi } from 'vitest';
import {
  AutoConfig,
  AutoModelForCausalLM,
  AutoTokenizer,
  ConfigError,
  HubError,
  InputError,
  type ProgressEvent,
} from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';
import { hasProc, privateDirty } from '../helpers/memory.ts';

const NAME = 'qwen3_moe_c';
const golden = readJson(goldenModel(NAME), 'expected.json');
const prompt = golden.prompts[1] as (typeof golden.prompts)[number];
const work = mkdtempSync(join(tmpdir(), 'switchyard-loading-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

describe('fromPretrained', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('loads model, config and tokenizer by id from the Hub cache, offline', async () => {
    const commit = 'a'.repeat(40);
    const repo = join(work, 'hub/models--org--tiny');
    mkdirSync(join(repo, 'refs'), { recursive: true });
    writeFileSync(join(repo, 'refs/main'), commit);
    cpSync(goldenModel(NAME), join(repo, 'snapshots', commit), { recursive: true });
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    vi.stubEnv('HF_HUB_CACHE', join(work, 'hub'));
    const model = await AutoModelForCausalLM.fromPretrained('org/tiny', { dtype: 'float32' });
    const { sequences } = await model.generate({
      inputIds: [prompt.input_ids],
      maxNewTokens: 24,
      eosTokenId: [],
      repetitionPenalty: 1,
      doSample: false,
    });
    expect(sequences[0]?.slice(prompt.input_ids.length)).toEqual(prompt.greedy.tokens);
    await model.dispose();
    expect((await AutoConfig.fromPretrained('org/tiny')).json.model_type).toBe('qwen3_moe');
    expect((await AutoTokenizer.fromPretrained('org/tiny'))('Hello').inputIds[0]?.length).toBeGreaterThan(0);
    await expect(AutoModelForCausalLM.fromPretrained('org/other')).rejects.toThrow(HubError);
  });

  it('takes config.json fields from the caller', async () => {
    const options = { config: { max_position_embeddings: 16 } };
    const model = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), options);
    expect(model.contextLength).toBe(16);
    await model.dispose();
    const bad = { config: { num_hidden_layers: 'three' } };
    await expect(AutoConfig.fromPretrained(goldenModel(NAME), bad)).rejects.toThrow(
      /config\.json: num_hidden_layers is "three"/,
    );
  });

  it('refuses options it does not know the meaning of', async () => {
    const load = (options: object) => AutoModelForCausalLM.fromPretrained(goldenModel(NAME), options);
    await expect(load({ dtype: 'int4' })).rejects.toThrow(
      /dtype is "int4"; expected auto, float32, bfloat16, float16/,
    );
    await expect(load({ threads: 0 })).rejects.toThrow(InputError);
    await expect(load({ device: 'tpu' })).rejects.toThrow(/device is "tpu"; expected one of cpu, auto, cuda/);
    await expect(load({ config: { model_type: 'qwen3_mo' } })).rejects.toThrow(/Did you mean "qwen3_moe"/);
    await expect(load({ config: { model_type: 'qwen9_moe' } })).rejects.toThrow(
      /"qwen9_moe", which Switchyard does not know; supported are (?!.*Did you mean).*"switchyard models" lists some that can$/,
    );
    await expect(load({ config: { model_type: 'llama' } })).rejects.toThrow(ConfigError);
  });

  it('ends through its signal, whose reason becomes the cause', async () => {
    const reason = new Error('enough');
    const load = AutoModelForCausalLM.fromPretrained(goldenModel(NAME), {
      signal: AbortSignal.abort(reason),
    });
    await expect(load).rejects.toMatchObject({ name: 'AbortError', cause: reason });
  });

  it.runIf(hasProc)('copies no weight: a layer of real size adds next to no private memory', async () => {
    const folder = writeSparseCheckpoint(join(work, 'sparse'));
    const before = privateDirty();
    const model = await AutoModelForCausalLM.fromPretrained(folder, { dtype: 'bfloat16' });
    expect(privateDirty() - before).toBeLessThan(64 * 2 ** 20);
    await model.dispose();
  });
});

describe('a prompt that does not fit', () => {
  it('is an error that names row, place and limit', async () => {
    const model = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { maxCacheLength: 12 });
    const generate = (inputIds: number[][], more = {}) =>
      model.generate({ inputIds, maxNewTokens: 1, ...more });
    await expect(generate([[1, 1024]])).rejects.toThrow(/row 0, position 1 is 1024.*1023/);
    await expect(generate([[1, -3]])).rejects.toThrow(/position 1 is -3/);
    await expect(generate([[]])).rejects.toThrow(/row 0 is empty/);
    await expect(generate([Array(13).fill(1)])).rejects.toThrow(/13 tokens.*12/);
    await expect(generate([[1]], { temperature: -1 })).rejects.toThrow(/temperature is -1/);
    await expect(model.forward({ inputIds: [Array(13).fill(1)] })).rejects.toThrow(/13 tokens.*12/);
    await expect(model.forward({ inputIds: [[1]], logitsToKeep: 1.5 })).rejects.toThrow(
      /logitsToKeep is 1.5/,
    );
    const { finishReasons, sequences } = await generate([Array(10).fill(1)], {
      maxNewTokens: 50,
      eosTokenId: [],
    });
    expect([finishReasons, sequences[0]?.length]).toEqual([['length'], 12]);
    await model.dispose();
    await expect(generate([[1]])).rejects.toThrow(/disposed/);
  });
});

/** Headers of a one-layer checkpoint with the layer shapes of Qwen1.5-MoE-A2.7B; the tensors are a hole in the file. */
function writeSparseCheckpoint(folder: string): string {
  const hidden = 2048;
  const [experts, intermediate, shared, vocab] = [60, 1408, 5632, 151936];
  const shapes: Record<string, number[]> = {
    'model.embed_tokens.weight': [vocab, hidden],
    'lm_head.weight': [vocab, hidden],
    'model.norm.weight': [hidden],
  };
  const layer = (name: string, shape: number[]) => {
    shapes[`model.layers.0.${name}`] = shape;
  };
  layer('input_layernorm.weight', [hidden]);
  layer('post_attention_layernorm.weight', [hidden]);
  for (const part of ['q', 'k', 'v', 'o']) layer(`self_attn.${part}_proj.weight`, [hidden, hidden]);
  for (const part of ['q', 'k', 'v']) layer(`self_attn.${part}_proj.bias`, [hidden]);
  layer('mlp.gate.weight', [experts, hidden]);
  layer('mlp.shared_expert_gate.weight', [1, hidden]);
  const mlp = (prefix: string, width: number) => {
    layer(`${prefix}.gate_proj.weight`, [width, hidden]);
    layer(`${prefix}.up_proj.weight`, [width, hidden]);
    layer(`${prefix}.down_proj.weight`, [hidden, width]);
  };
  mlp('mlp.shared_expert', shared);
  for (let expert = 0; expert < experts; expert++) mlp(`mlp.experts.${expert}`, intermediate);
  const header: Record<string, object> = {};
  let offset = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const bytes = 2 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  mkdirSync(folder, { recursive: true });
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([length, text]));
  ftruncateSync(file, 8 + text.length + offset);
  closeSync(file);
  const config = { model_type: 'qwen2_moe', num_hidden_layers: 1, torch_dtype: 'bfloat16' };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

test('a load tells of each file of weights once its header is read, and of all at the end', async () => {
  const events: ProgressEvent[] = [];
  const onProgress = (event: ProgressEvent) => events.push(event);
  const model = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen2_moe_a'), { onProgress });
  await model.dispose();
  expect(events.map(({ stage, file }) => [stage, file])).toEqual(
    [1, 2, 3].map((n) => ['load', `model-0000${n}-of-00003.safetensors`]),
  );
  const total = events.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  expect(events.at(-1)).toMatchObject({ totalLoadedBytes: total, totalBytes: total });
});
