import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/auto/load-config.ts';
import { openRepo } from '../../src/auto/open-repo.ts';
import { warnOfMemory } from '../../src/auto/warn-of-memory.ts';
import { AutoModelForCausalLM } from '../../src/index.ts';
import { memoryHere } from '../../src/runtime/memory-here.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';

const folders: string[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

/** Warnings about the demo on a machine with so much memory for its 5.2 MB of weights. */
async function warningsWith(available: number, more: { quantization?: 'int4'; limit?: number } = {}) {
  const { limit, ...options } = more;
  const repo = await openRepo(DEMO_FOLDER, {});
  const { model } = await loadConfig(repo);
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  const memory = { total: 2 * available, available, ...(limit !== undefined && { limit }) };
  await warnOfMemory(
    repo,
    ['model.safetensors'],
    { model, isQuantized: false, onWarning, ...options },
    memory,
  );
  return warnings;
}

test('weights that memory cannot hold are told, with what each token reads from disk and what helps', async () => {
  const [warning, ...others] = await warningsWith(4e6);
  expect(others).toEqual([]);
  expect(warning).toMatch(
    /: the weights take 5\.2 MB of memory, and 4\.0 MB are free here: every token will be read from disk, about \d\.\d MB of its 2\.3 MB\. quantization: 'int4' \(--quantize int4\) makes a quarter of them; maxMemory \(--max-memory\) keeps the experts used most in memory and reads others many at a time; "switchyard models" lists what fits$/,
  );
  expect(await warningsWith(1e9)).toEqual([]);
});

test('a control group is named where it is what limits, and rounding is not advised to who rounds', async () => {
  const [warning] = await warningsWith(2e6, { limit: 2e6, quantization: 'int4' });
  expect(warning).toMatch(
    /as the control group limits this process: .* of its \d.*\. maxMemory .*; "switchyard models" lists what fits$/,
  );
});

/** Larger than any memory, on a disk that keeps no zeros. */
test.each(['cpu', 'auto'] as const)(
  'a load on %s of a model larger than the memory warns once, says how long a token takes, and goes on',
  async (device) => {
    // Without it auto is the CPU, whatever this machine has.
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', '/nowhere/library.so');
    const [hidden, experts] = [4096, 8];
    const intermediate = 256 * Math.ceil((1.5 * memoryHere().total) / (experts * 3 * hidden * 2 * 256));
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-large-'));
    folders.push(folder);
    const config = {
      ...{
        model_type: 'qwen3_moe',
        dtype: 'bfloat16',
        vocab_size: 64,
        hidden_size: hidden,
        num_hidden_layers: 1,
      },
      ...{
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 64,
        num_experts: experts,
        num_experts_per_tok: 2,
      },
      ...{ moe_intermediate_size: intermediate, tie_word_embeddings: true, max_position_embeddings: 128 },
    };
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    const layer = 'model.layers.0';
    const shapes: Record<string, number[]> = {
      'model.embed_tokens.weight': [64, hidden],
      'model.norm.weight': [hidden],
      [`${layer}.input_layernorm.weight`]: [hidden],
      [`${layer}.post_attention_layernorm.weight`]: [hidden],
      [`${layer}.self_attn.q_proj.weight`]: [128, hidden],
      [`${layer}.self_attn.k_proj.weight`]: [64, hidden],
      [`${layer}.self_attn.v_proj.weight`]: [64, hidden],
      [`${layer}.self_attn.o_proj.weight`]: [hidden, 128],
      [`${layer}.self_attn.q_norm.weight`]: [64],
      [`${layer}.self_attn.k_norm.weight`]: [64],
      [`${layer}.mlp.gate.weight`]: [experts, hidden],
      [`${layer}.mlp.experts.gate_up_proj`]: [experts, 2 * intermediate, hidden],
      [`${layer}.mlp.experts.down_proj`]: [experts, hidden, intermediate],
    };
    let end = 0;
    const header: Record<string, object> = {};
    for (const [name, shape] of Object.entries(shapes)) {
      const bytes = 2 * shape.reduce((a, b) => a * b, 1);
      header[name] = { dtype: 'BF16', shape, data_offsets: [end, end + bytes] };
      end += bytes;
    }
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = await open(join(folder, 'model.safetensors'), 'w');
    await file.write(Buffer.concat([length, text]));
    await file.truncate(8 + text.length + end);
    await file.close();

    const warnings: string[] = [];
    const progress: string[] = [];
    const model = await AutoModelForCausalLM.fromPretrained(folder, {
      device,
      onProgress: ({ stage, file }) => progress.push(`${stage} ${file}`),
      onWarning: (message) => warnings.push(message),
    });
    await model.dispose();
    expect(progress).toEqual(['load model.safetensors']);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /every token will be read from disk, about .*, which takes \d\S* s at \d.*\/s\. quantization/,
    );
  },
);
