/** Checkpoints with rounded weights, as other programs read them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  DEMO_MODEL,
  InputError,
  type LoadOptions,
  saveQuantized,
} from '../../src/index.ts';
import { run } from '../cli/capture.ts';
import { goldenModel } from '../helpers/goldens.ts';

const TEXT = goldenModel('qwen3_moe_c');
const DEMO = join(import.meta.dirname, '../../configs/demo-model');
const root = mkdtempSync(join(tmpdir(), 'switchyard-save-'));
beforeAll(() => vi.stubEnv('SWITCHYARD_CACHE', join(root, 'cache')));
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

async function logits(source: string, options: LoadOptions = {}): Promise<Float32Array> {
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  const model = await AutoModelForCausalLM.fromPretrained(source, {
    dtype: 'float32',
    onWarning,
    ...options,
  });
  try {
    expect(warnings).toEqual([]);
    const output = await model.forward({ inputIds: [[5, 6, 7, 8]] });
    return (output.logits.data as Float32Array).slice();
  } finally {
    await model.dispose();
  }
}

interface Entry {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** All tensors of a folder. */
function tensorsOf(folder: string): Map<string, Entry> {
  const tensors = new Map<string, Entry>();
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.safetensors'))) {
    const bytes = readFileSync(join(folder, file));
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, start));
    delete header.__metadata__;
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries<{
      dtype: string;
      shape: number[];
      data_offsets: [number, number];
    }>(header))
      tensors.set(name, { dtype, shape, bytes: bytes.subarray(start + offsets[0], start + offsets[1]) });
  }
  return tensors;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);
function bf16(bytes: Buffer, i: number): number {
  word[0] = bytes.readUInt16LE(2 * i) << 16;
  return float[0] as number;
}

describe('a checkpoint with rounded weights', () => {
  it.each([
    ['int4', 'pack-quantized', true],
    ['int4-asymmetric', 'pack-quantized', false],
  ] as const)('in %s has every tensor as the format wants it', async (quantization, format, symmetric) => {
    const folder = join(root, quantization);
    const saved = await saveQuantized(DEMO, folder, { quantization });
    expect(saved.scheme).toBe(
      `experts ${quantization} in groups of 32, attention ${quantization} in groups of 32`,
    );
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    const settings = config.quantization_config;
    expect(settings).toMatchObject({
      quant_method: 'compressed-tensors',
      format,
      quantization_status: 'compressed',
    });
    const { weights, targets } = settings.config_groups.group_0;
    expect(weights).toMatchObject({ num_bits: 4, type: 'int', symmetric, strategy: 'group', group_size: 32 });
    const stored = tensorsOf(folder);
    const original = tensorsOf(DEMO);
    const packed = [...stored.keys()].filter((name) => name.endsWith('.weight_packed'));
    expect(packed.length).toBeGreaterThan(20);
    for (const name of packed) {
      const module = name.replace(/\.weight_packed$/, '');
      expect(targets.some((target: string) => new RegExp(`^${target.slice(3)}`).test(module))).toBe(true);
      expectRounded(module, stored, original.get(`${module}.weight`) as Entry, symmetric);
    }
    // What is left is as it was, and linear modules of it are named.
    for (const [name, { dtype, bytes }] of stored) {
      const before = original.get(name);
      if (!before) continue;
      expect([dtype, bytes.equals(before.bytes)]).toEqual([before.dtype, true]);
      const isLinear = before.shape.length === 2 && !name.includes('embed_tokens');
      expect(settings.ignore.includes(name.replace(/\.weight$/, '')), name).toBe(isLinear);
    }
  });

  it.each(['int8', 'int4', 'int4-asymmetric'] as const)(
    'in %s gives what rounding at load gives',
    async (format) => {
      const folder = join(root, `same-${format}`);
      await saveQuantized(DEMO, folder, { quantization: format, shardBytes: 500_000 });
      expect(readdirSync(folder)).toEqual(
        expect.arrayContaining(['config.json', 'model.safetensors.index.json', 'README.md']),
      );
      const atLoad = await logits(DEMO, { quantization: { experts: format, attention: format } });
      expect(await logits(folder)).toEqual(atLoad);
    },
  );

  it('brings tokenizer and card along, and a head of its own where the model had a tied one', async () => {
    const folder = join(root, 'demo');
    const quantization = { experts: 'int4', attention: 'int8', head: 'int8' } as const;
    await saveQuantized(DEMO_MODEL, folder, { quantization });
    expect(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))).toMatchObject({
      tie_word_embeddings: false,
      quantization_config: { format: 'mixed-precision' },
    });
    expect(readFileSync(join(folder, 'README.md'), 'utf8')).toMatch(
      /experts int4 in groups of 32.*head int8/s,
    );
    const tokenizer = await AutoTokenizer.fromPretrained(folder);
    expect(tokenizer.decode(tokenizer.encode('In the beginning'))).toBe('In the beginning');
    expect(await logits(folder)).toEqual(await logits(DEMO_MODEL, { quantization }));
  });

  it('is written by the command line', async () => {
    const folder = join(root, 'cli');
    const { exitCode, stdout } = await run(['quantize', TEXT, folder, '--to', 'experts=int8']);
    expect([exitCode, stdout]).toEqual([0, expect.stringMatching(/cli: experts int8, \d/)]);
    const { exitCode: again, stderr } = await run(['quantize', TEXT, folder, '--to', 'int8']);
    expect([again, stderr]).toEqual([1, expect.stringMatching(/cli is not empty: it holds/)]);
  });

  it('is not made of one that is quantized already', async () => {
    const source = join(import.meta.dirname, '../fixtures/goldens/quantized/qwen3_moe_gptq');
    const saving = saveQuantized(source, join(root, 'gptq'), { quantization: { head: 'int8' } });
    await expect(saving).rejects.toThrow(InputError);
    await expect(saving).rejects.toThrow(/is quantized already/);
    writeFileSync(join(root, 'file'), '');
    await expect(saveQuantized(TEXT, join(root, 'file'), { quantization: 'int8' })).rejects.toThrow(
      /expected a folder that does not exist/,
    );
  });
});

/** Codes, scales and zero points of a module, against the weights that they were made of. */
function expectRounded(module: string, stored: Map<string, Entry>, weight: Entry, symmetric: boolean): void {
  const part = (name: string) => stored.get(`${module}.${name}`) as Entry;
  const [rows, columns] = weight.shape as [number, number];
  const [codes, scales, shape] = [part('weight_packed'), part('weight_scale'), part('weight_shape')];
  expect([codes.dtype, codes.shape]).toEqual(['I32', [rows, columns / 8]]);
  expect([scales.dtype, scales.shape]).toEqual(['BF16', [rows, columns / 32]]);
  expect([shape.bytes.readBigInt64LE(0), shape.bytes.readBigInt64LE(8)]).toEqual([
    BigInt(rows),
    BigInt(columns),
  ]);
  const zeros = symmetric ? undefined : part('weight_zero_point');
  if (zeros) expect([zeros.dtype, zeros.shape]).toEqual(['I32', [Math.ceil(rows / 8), columns / 32]]);
  let worst = 0;
  for (let row = 0; row < rows; row += 3) {
    for (let column = 0; column < columns; column++) {
      const group = Math.floor(column / 32);
      const packed = codes.bytes.readUInt32LE(4 * ((row * columns) / 8 + Math.floor(column / 8)));
      const code = (packed >>> (4 * (column % 8))) & 15;
      const zeroWord = zeros?.bytes.readUInt32LE(4 * (Math.floor(row / 8) * (columns / 32) + group));
      const zero = zeroWord === undefined ? 8 : (zeroWord >>> (4 * (row % 8))) & 15;
      const scale = bf16(scales.bytes, (row * columns) / 32 + group);
      const exact = bf16(weight.bytes, row * columns + column);
      worst = Math.max(worst, Math.abs((code - zero) * scale - exact) / Math.abs(scale));
    }
  }
  // Half a step, or what was cut off of a group's greatest.
  expect(worst).toBeLessThan(1.6);
}

describe('what cannot be saved', () => {
  it.each<[string, object, RegExp]>([
    ['no options', undefined as never, /quantization is undefined; expected int8, int4/],
    ['an unknown option', { shardbytes: 5 }, /"shardbytes" is not an option. Did you mean "shardBytes"/],
    ['no thread', { threads: 0 }, /threads is 0; expected an integer from 1 to 1024/],
    ['more threads than can be', { threads: 1e9 }, /threads is 1000000000; expected/],
    ['shards of nothing', { shardBytes: 0 }, /shardBytes is 0; expected a whole number above 0/],
    ['no signal', { signal: null }, /saveQuantized: signal is null; expected an AbortSignal/],
  ])('is refused before anything is written: %s', async (_, options, message) => {
    const folder = join(root, 'refused');
    const given = options && { quantization: 'int8', ...options };
    const saved = saveQuantized(DEMO, folder, given as never);
    await expect(saved).rejects.toThrow(InputError);
    await expect(saved).rejects.toThrow(message);
    expect(readdirSync(root)).not.toContain('refused');
  });

  it('names no folder without a name', async () => {
    await expect(saveQuantized(DEMO, '', { quantization: 'int8' })).rejects.toThrow(/folder is ""; expected/);
  });

  it.runIf(process.platform === 'linux')('says where no folder can be made', async () => {
    const saved = saveQuantized(DEMO, '/proc/switchyard/x', { quantization: 'int8' });
    await expect(saved).rejects.toThrow(/cannot be written \(ENOENT\)\. Name a folder on another disk/);
  });
});
