/** FP8 releases of the hybrid families, in the spelling of their repos: made of the goldens, against the same values in float32. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM } from '../../src/index.ts';
import { goldenModel, maxDifference, textGolden } from '../helpers/goldens.ts';

const BLOCK = 128;
/** Modules that publishers leave alone, by the end of their names. */
const KEPT =
  /(?:embed_tokens|lm_head|norm|conv1d|in_proj_(?:a|b|ba)|mlp\.gate|shared_expert_gate|indexer\.index_qk_proj)\.weight$|^mtp\.|visual\.|hyper_connection|\.ple\.|layernorm\.weight$/;
const TABLE = /ngram_embedding\.shard_\d+\.weight$/;

interface Stored {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}
type Tensors = Map<string, Stored>;

/** What the 256 codes of e4m3 stand for. */
const E4M3 = Float32Array.from({ length: 256 }, (_, code) => {
  const [sign, exponent, mantissa] = [code >> 7, (code >> 3) & 15, code & 7];
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  const size = exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7);
  return sign ? -size : size;
});
const MOST = 448;
const ORDERED = [...E4M3.keys()].slice(0, 127);

function encode(value: number): number {
  const size = Math.abs(value);
  const after = ORDERED.findIndex((code) => (E4M3[code] as number) >= size);
  const upper = after < 0 ? 126 : after;
  const lower = Math.max(0, upper - 1);
  const nearer = size - (E4M3[lower] as number) < (E4M3[upper] as number) - size ? lower : upper;
  return value < 0 ? nearer | 128 : nearer;
}

const bfloat16 = (value: number) => {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] as number;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
};
const ofBfloat16 = (bits: number) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0] as number;

function numbers({ dtype, bytes }: Stored): Float32Array {
  const { buffer } = new Uint8Array(bytes);
  if (dtype === 'F32') return new Float32Array(buffer);
  return Float32Array.from(new Uint16Array(buffer), ofBfloat16);
}

async function readAll(folder: string): Promise<Tensors> {
  const index = JSON.parse(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8'));
  const tensors: Tensors = new Map();
  for (const file of new Set(Object.values<string>(index.weight_map))) {
    const bytes = await readFile(join(folder, file));
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    const { __metadata__, ...entries } = JSON.parse(bytes.toString('utf8', 8, start));
    for (const [name, { dtype, shape, data_offsets }] of Object.entries<{
      dtype: string;
      shape: number[];
      data_offsets: [number, number];
    }>(entries))
      tensors.set(name, {
        dtype,
        shape,
        bytes: bytes.subarray(start + data_offsets[0], start + data_offsets[1]),
      });
  }
  return tensors;
}

async function writeAll(folder: string, tensors: Tensors): Promise<void> {
  let end = 0;
  const header = Object.fromEntries(
    [...tensors].map(([name, { dtype, shape, bytes }]) => {
      const from = end;
      end += bytes.byteLength;
      return [name, { dtype, shape, data_offsets: [from, end] }];
    }),
  );
  const text = Buffer.from(JSON.stringify(header).padEnd(8 * Math.ceil(JSON.stringify(header).length / 8)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFile(
    join(folder, 'model.safetensors'),
    Buffer.concat([length, text, ...[...tensors.values()].map(({ bytes }) => bytes)]),
  );
}

/** Fused experts as the FP8 releases have them: one by one, gate and up apart. */
function separated(tensors: Tensors): Tensors {
  const all: Tensors = new Map();
  for (const [name, tensor] of tensors) {
    const [, prefix, part] = /^(.*\.experts)\.(gate_up|down)_proj$/.exec(name) ?? [];
    if (prefix === undefined) {
      all.set(name, tensor);
      continue;
    }
    const [experts, rows, columns] = tensor.shape as [number, number, number];
    const names = part === 'down' ? ['down_proj'] : ['gate_proj', 'up_proj'];
    const bytes = tensor.bytes.byteLength / (experts * names.length);
    for (let expert = 0; expert < experts; expert++)
      for (const [i, own] of names.entries()) {
        const from = (expert * names.length + i) * bytes;
        all.set(`${prefix}.${expert}.${own}.weight`, {
          dtype: tensor.dtype,
          shape: [rows / names.length, columns],
          bytes: tensor.bytes.subarray(from, from + bytes),
        });
      }
  }
  return all;
}

/** A matrix in codes, its scales, and what they stand for. */
function quantized(tensor: Stored, block: readonly [number, number]) {
  const [rows, columns] = tensor.shape as [number, number];
  const values = numbers(tensor);
  const grid = [Math.ceil(rows / block[0]), Math.ceil(columns / block[1])] as const;
  const blockOf = (i: number) =>
    Math.floor(i / columns / block[0]) * grid[1] + Math.floor((i % columns) / block[1]);
  const largest = new Float32Array(grid[0] * grid[1]);
  for (const [i, value] of values.entries())
    largest[blockOf(i)] = Math.max(largest[blockOf(i)] as number, Math.abs(value));
  const scales = Uint16Array.from(largest, (most) => bfloat16(Math.max(most / MOST, 1e-8)));
  const scaleOf = (i: number) => ofBfloat16(scales[blockOf(i)] as number);
  const codes = Uint8Array.from(values, (value, i) =>
    encode(Math.min(MOST, Math.max(-MOST, value / scaleOf(i)))),
  );
  const widened = Float32Array.from(codes, (code, i) => (E4M3[code] as number) * scaleOf(i));
  return {
    codes: { dtype: 'F8_E4M3', shape: tensor.shape, bytes: codes },
    scales: { dtype: 'BF16', shape: grid, bytes: new Uint8Array(scales.buffer) },
    plain: { dtype: 'F32', shape: tensor.shape, bytes: new Uint8Array(widened.buffer) },
  };
}

/** The checkpoint in FP8, and its values in float32. */
function release(tensors: Tensors): { fp8: Tensors; plain: Tensors; kept: string[] } {
  const [fp8, plain]: [Tensors, Tensors] = [new Map(), new Map()];
  const kept: string[] = [];
  for (const [name, tensor] of tensors) {
    const isMatrix = tensor.shape.length === 2 && name.endsWith('.weight');
    if (TABLE.test(name)) {
      // One scale for all parts of the table.
      const { codes, scales, plain: values } = quantized({ ...tensor }, [1e9, 1e9]);
      const own = ofBfloat16(new Uint16Array(scales.bytes.buffer)[0] as number);
      const shared = 2 ** -8;
      const recoded = Uint8Array.from(codes.bytes, (code) => encode(((E4M3[code] as number) * own) / shared));
      const widened = Float32Array.from(recoded, (code) => (E4M3[code] as number) * shared);
      fp8.set(name, { ...codes, bytes: recoded });
      plain.set(name, { ...values, bytes: new Uint8Array(widened.buffer) });
      const scale = { dtype: 'F32', shape: [1], bytes: new Uint8Array(Float32Array.of(shared).buffer) };
      fp8.set(name.replace(/shard_\d+\.weight$/, 'weight_scale'), scale);
      continue;
    }
    if (!isMatrix || KEPT.test(name)) {
      if (isMatrix) kept.push(name.replace(/\.weight$/, ''));
      fp8.set(name, tensor);
      plain.set(name, tensor);
      continue;
    }
    const { codes, scales, plain: values } = quantized(tensor, [BLOCK, BLOCK]);
    fp8.set(name, codes);
    fp8.set(`${name}_scale_inv`, scales);
    plain.set(name, values);
  }
  return { fp8, plain, kept };
}

describe.each(['qwen3_next_g', 'qwen3_5_moe_text_i', 'qwen3_5_moe_j', 'qwen4_exp_k'])('%s in FP8', (name) => {
  const folders: string[] = [];
  afterAll(async () => {
    for (const folder of folders) await rm(folder, { recursive: true });
  });
  async function folderOf(tensors: Tensors, more: object): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-fp8-'));
    folders.push(folder);
    const config = JSON.parse(await readFile(join(goldenModel(name), 'config.json'), 'utf8'));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...more }));
    await copyFile(join(goldenModel(name), 'generation_config.json'), join(folder, 'generation_config.json'));
    await writeAll(folder, tensors);
    return folder;
  }

  it('gives the logits of its values in float32, on every backend, and those of bfloat16 on average', async () => {
    const { fp8, plain, kept } = release(separated(await readAll(goldenModel(name))));
    expect(fp8.size).toBeGreaterThan(plain.size);
    const warnings: string[] = [];
    const options = {
      dtype: 'float32',
      threads: 2,
      onWarning: (text: string) => warnings.push(text),
    } as const;
    const quantization_config = {
      ...{ activation_scheme: 'dynamic', fmt: 'e4m3', quant_method: 'fp8' },
      ...{ weight_block_size: [BLOCK, BLOCK], modules_to_not_convert: kept },
    };
    const small = await AutoModelForCausalLM.fromPretrained(
      await folderOf(fp8, { quantization_config }),
      options,
    );
    const wide = await AutoModelForCausalLM.fromPretrained(await folderOf(plain, {}), options);
    expect(warnings).toEqual([]);
    const { golden, tensor } = textGolden(name);
    const { input_ids: ids, name: prompt } = golden.prompts[2] as (typeof golden.prompts)[number];
    const logits = async (model: typeof small) =>
      (await model.forward({ inputIds: [ids] })).logits.data as Float32Array;
    const expected = await logits(wide);
    for (const backend of ['eager', 'batched_mm', 'grouped_mm']) {
      small.setExpertsImplementation(backend);
      expect(maxDifference(await logits(small), expected)).toBeLessThan(5e-4);
    }
    const greedy = { inputIds: [ids], doSample: false, eosTokenId: [], maxNewTokens: 8 };
    expect((await small.generate(greedy)).sequences).toEqual((await wide.generate(greedy)).sequences);
    const reference = tensor(`${prompt}.logits_last`)?.data as Float32Array;
    const last = expected.slice(-reference.length);
    const mean =
      last.reduce((sum, value, i) => sum + Math.abs(value - (reference[i] as number)), 0) / last.length;
    expect(mean).toBeGreaterThan(0);
    expect(mean).toBeLessThan(1);
    await small.dispose();
    await wide.dispose();
  });
});
