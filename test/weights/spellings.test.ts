/** What publishers may write besides what the golden checkpoints have: settings and shapes in, a description out. No weight is read. */
import { describe, expect, it } from 'vitest';
import type { SafetensorsDType } from '../../src/dtype.ts';
import { storedBits } from '../../src/dtype.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { openFormat } from '../../src/weights/formats/registry.ts';
import { readQuantized } from '../../src/weights/quantized-checkpoint.ts';
import type { QuantizedTensor } from '../../src/weights/quantized-tensor.ts';

type Shapes = Record<string, [SafetensorsDType, number[]]>;
const FILE = '/m/model.safetensors';

async function read(
  settings: { quant_method: string; [name: string]: unknown },
  shapes: Shapes,
  values: Record<string, Buffer> = {},
  warn: (message: string) => void = () => {},
): Promise<Map<string, QuantizedTensor>> {
  const { quant_method: method, ...json } = settings;
  const reader = openFormat({ method, json, file: 'config.json', field: 'quantization_config' }, warn);
  const tensors = new Map(
    Object.entries(shapes).map(([name, [dtype, shape]]): [string, TensorInfo] => {
      const byteLength = (shape.reduce((a, b) => a * b, 1) * storedBits(dtype)) / 8;
      return [name, { name, dtype, shape, file: FILE, offset: 0, byteLength }];
    }),
  );
  const readValues = async (wanted: readonly TensorInfo[]) =>
    wanted.map(({ name, byteLength }) => values[name] ?? Buffer.alloc(byteLength));
  const { quantized } = await readQuantized({ files: [FILE], tensors }, reader, readValues);
  return new Map(quantized);
}

/** The one weight `m.weight` of a module m. */
async function readOne(...given: Parameters<typeof read>): Promise<QuantizedTensor> {
  const found = await read(...given);
  expect([...found.keys()]).toEqual(['m.weight']);
  return found.get('m.weight') as QuantizedTensor;
}

const words = (rows: bigint, columns: bigint) => Buffer.from(BigInt64Array.of(rows, columns).buffer);

describe('gptq', () => {
  const gptq = (bits: number, groups: number): Shapes => ({
    'm.qweight': ['I32', [(64 * bits) / 32, 48]],
    'm.qzeros': ['I32', [groups, (48 * bits) / 32]],
    'm.scales': ['F16', [groups, 48]],
    'm.g_idx': ['I32', [64]],
  });
  const base = { quant_method: 'gptq', bits: 4, group_size: 32, desc_act: false };

  it('takes the middle for a zero point with sym, whatever is stored', async () => {
    const one = await readOne({ ...base, sym: true }, gptq(4, 2));
    expect(one).toMatchObject({ shape: [48, 64], zero: 8, codes: { bits: 4, order: 'columns' } });
    expect(one.scales).toMatchObject({ group: [1, 32], transposed: true });
    expect(await readOne({ ...base, bits: 8 }, gptq(8, 2))).toMatchObject({ zero: 128 });
  });

  it.each([
    ['gptq', true, 1],
    ['gptq_v2', false, 0],
  ])('reads zero points of format %s less one: %s', async (checkpoint_format, lessOne, warnings) => {
    const heard: string[] = [];
    const settings = { ...base, sym: false, checkpoint_format };
    const one = await readOne(settings, gptq(4, 2), {}, (message) => heard.push(message));
    expect(one.zero).toMatchObject({ order: 'columns', lessOne });
    expect(heard).toHaveLength(warnings);
  });

  it('has one group a row with group_size -1', async () => {
    expect((await readOne({ ...base, group_size: -1 }, gptq(4, 1))).scales.group).toEqual([1, 64]);
  });

  it('hands on which group a column is of', async () => {
    expect((await readOne({ ...base, desc_act: true }, gptq(4, 2))).columnGroups?.name).toBe('m.g_idx');
  });

  it('follows the first pattern of dynamic that matches from the start', async () => {
    const dynamic = { '-:other': {}, '+:m$': { bits: 8 }, m: { group_size: 16 } };
    expect((await readOne({ ...base, dynamic }, gptq(8, 2))).codes.bits).toBe(8);
    await expect(readOne({ ...base, dynamic: { '.*x': { bits: 8 } } }, gptq(8, 2))).rejects.toThrow(
      /m\.qzeros .*of 8 bits, but config\.json: quantization_config\.bits is 4/,
    );
    await expect(readOne({ ...base, dynamic: { m: { bits: 3 } } }, gptq(4, 2))).rejects.toThrow(
      /quantization_config\.dynamic\.m\.bits is 3/,
    );
  });

  it('is refused where a pattern of dynamic is malformed', async () => {
    await expect(readOne({ ...base, dynamic: { '(': { bits: 8 } } }, gptq(4, 2))).rejects.toThrow(
      /quantization_config\.dynamic has a pattern that cannot be used/,
    );
  });

  it.each<[string, Shapes, RegExp]>([
    ['scales are missing', { 'm.scales': ['F16', []] }, /m\.scales/],
    [
      'groups are too few',
      { 'm.scales': ['F16', [1, 48]] },
      /m\.scales.*1 groups for 64 columns.*group_size is 32/,
    ],
    ['scales are whole numbers', { 'm.scales': ['I32', [2, 48]] }, /m\.scales \(I32 .*should be F16/],
    ['the order is short', { 'm.g_idx': ['I32', [63]] }, /m\.qweight.*64 columns.*m\.g_idx is \[63\]/],
  ])('is refused where %s', async (_, changed, message) => {
    await expect(readOne(base, { ...gptq(4, 2), ...changed })).rejects.toThrow(message);
  });
});

describe('auto-round', () => {
  const shapes: Shapes = {
    'm.qweight': ['I32', [8, 48]],
    'm.qzeros': ['I32', [2, 6]],
    'm.scales': ['F16', [2, 48]],
  };
  it.each([
    ['auto_round', false],
    ['auto_round:gptqmodel', false],
    ['auto_round:auto_gptq', true],
  ])('%s stores zero points less one: %s', async (packing_format, lessOne) => {
    const settings = { quant_method: 'auto-round', bits: 4, group_size: 32, sym: false, packing_format };
    expect((await readOne(settings, shapes)).zero).toMatchObject({ lessOne });
  });

  it('can be packed as AWQ', async () => {
    const awq: Shapes = {
      'm.qweight': ['I32', [64, 6]],
      'm.qzeros': ['I32', [2, 6]],
      'm.scales': ['F16', [2, 48]],
    };
    const settings = { quant_method: 'auto-round', group_size: 32, packing_format: 'auto_round:auto_awq' };
    expect((await readOne(settings, awq)).codes.order).toBe('awq');
  });
});

describe('awq', () => {
  it('is refused in another layout than gemm', async () => {
    await expect(read({ quant_method: 'awq', version: 'gemv' }, {})).rejects.toThrow(
      /quantization_config\.version is "gemv"; expected "gemm"/,
    );
  });
});

describe('compressed-tensors', () => {
  const settings = (weights: object, targets = ['Linear']) => ({
    quant_method: 'compressed-tensors',
    format: 'pack-quantized',
    config_groups: { group_0: { targets, weights } },
  });
  const packed = (bits: number): Shapes => ({
    'm.weight_packed': ['I32', [48, (64 * bits) / 32]],
    'm.weight_scale': ['BF16', [48, 2]],
    'm.weight_shape': ['I64', [2]],
  });
  const shape = { 'm.weight_shape': words(48n, 64n) };
  const w4 = { num_bits: 4, group_size: 32, strategy: 'group', symmetric: true };

  it.each([4, 8])('%i bits in words, the middle as zero point', async (bits) => {
    const one = await readOne(settings({ ...w4, num_bits: bits }), packed(bits), shape);
    expect(one).toMatchObject({ shape: [48, 64], zero: 2 ** (bits - 1), codes: { bits, order: 'rows' } });
    expect(one.scales.group).toEqual([1, 32]);
  });

  it('zero points are packed down the rows', async () => {
    const zeros: Shapes = { 'm.weight_zero_point': ['I32', [6, 2]] };
    const one = await readOne(settings({ ...w4, symmetric: false }), { ...packed(4), ...zeros }, shape);
    expect(one.zero).toMatchObject({ order: 'rows', tensor: { name: 'm.weight_zero_point' } });
    await expect(readOne(settings({ ...w4, symmetric: false }), packed(4), shape)).rejects.toThrow(
      /m\.weight_zero_point is missing/,
    );
  });

  it('columns are in another order with actorder group alone', async () => {
    const order: Shapes = { ...packed(4), 'm.weight_g_idx': ['I32', [64]] };
    expect((await readOne(settings({ ...w4, actorder: 'group' }), order, shape)).columnGroups).toBeDefined();
    expect(
      (await readOne(settings({ ...w4, actorder: 'static' }), order, shape)).columnGroups,
    ).toBeUndefined();
  });

  it('a row may end within a word', async () => {
    const odd: Shapes = { ...packed(4), 'm.weight_scale': ['BF16', [48, 1]] };
    const one = await readOne(settings({ num_bits: 4, strategy: 'channel' }), odd, {
      'm.weight_shape': words(48n, 61n),
    });
    expect([one.shape, one.scales.group]).toEqual([
      [48, 61],
      [1, 61],
    ]);
  });

  it.each<[string, object, RegExp]>([
    ['bits', { ...w4, num_bits: 8 }, /m\.weight_packed.*64 columns of 4 bits.*weights\.num_bits is 8/],
    ['groups', { ...w4, group_size: 16 }, /m\.weight_scale.*should be \[48,4\].*weights\.group_size is 16/],
  ])('is refused where settings and tensors disagree about %s', async (_, weights, message) => {
    await expect(readOne(settings(weights), packed(4), shape)).rejects.toThrow(message);
  });

  it('settings of a module are those whose target names it', async () => {
    const groups = {
      quant_method: 'compressed-tensors',
      config_groups: {
        first: { targets: ['re:other.*'], weights: { ...w4, num_bits: 8 } },
        second: { targets: ['re:m$'], weights: w4 },
      },
    };
    expect((await readOne(groups, packed(4), shape)).codes.bits).toBe(4);
  });

  it('FP8 and int8 have a scale for the whole, for rows or for blocks', async () => {
    const grid = async (dtype: 'F8_E4M3' | 'I8', scale: number[], weights = {}) => {
      const shapes: Shapes = { 'm.weight': [dtype, [200, 150]], 'm.weight_scale': ['F32', scale] };
      return (await readOne(settings(weights), shapes)).scales.group;
    };
    expect(await grid('F8_E4M3', [])).toEqual([200, 150]);
    expect(await grid('I8', [200, 1])).toEqual([1, 150]);
    expect(await grid('F8_E4M3', [2, 2], { block_structure: [128, 128] })).toEqual([128, 128]);
    expect(await grid('F8_E4M3', [2, 2], { block_structure: '128x128' })).toEqual([128, 128]);
    await expect(grid('F8_E4M3', [2, 1], { block_structure: [128, 128] })).rejects.toThrow(
      /should be \[2,2\]/,
    );
  });

  it.each([
    [{ sparsity_config: { format: 'sparse-24-bitmask' } }, /sparsity_config\.format is "sparse-24-bitmask"/],
    [{ transform_config: { config_groups: { u: {} } } }, /transform_config\.config_groups/],
    [{ format: 'marlin-24' }, /format is "marlin-24"/],
  ])('is refused with %j', async (more, message) => {
    await expect(read({ quant_method: 'compressed-tensors', ...more }, {})).rejects.toThrow(message);
  });
});

describe('modelopt and quark', () => {
  it('FP8 may have one scale, one a row, or blocks', async () => {
    const grid = async (quant_algo: string, scale: number[]) => {
      const shapes: Shapes = { 'm.weight': ['F8_E4M3', [256, 150]], 'm.weight_scale': ['F32', scale] };
      return (await readOne({ quant_method: 'modelopt', quant_algo }, shapes)).scales.group;
    };
    expect(await grid('FP8', [])).toEqual([256, 150]);
    expect(await grid('FP8_PER_CHANNEL_PER_TOKEN', [256])).toEqual([1, 150]);
    expect(await grid('FP8_PB_WO', [2, 1, 2, 1])).toEqual([128, 128]);
  });

  it('NVFP4 needs the number that multiplies its scales', async () => {
    const shapes: Shapes = { 'm.weight': ['U8', [32, 32]], 'm.weight_scale': ['F8_E4M3', [32, 4]] };
    await expect(readOne({ quant_method: 'modelopt', quant_algo: 'NVFP4' }, shapes)).rejects.toThrow(
      /m\.weight_scale_2 is missing/,
    );
    const global: Shapes = { ...shapes, 'm.weight_scale_2': ['F32', []] };
    const one = await readOne({ quant_method: 'modelopt', quant_algo: 'NVFP4' }, global);
    expect(one.scales).toMatchObject({ multiplier: { name: 'm.weight_scale_2' } });
    expect(one.scales.divisor).toBeUndefined();
  });

  it('Quark writes MXFP4 as bytes with exponents', async () => {
    const quark = {
      quant_method: 'quark',
      global_quant_config: {
        weight: { dtype: 'fp4', qscheme: 'per_group', group_size: 32, scale_format: 'e8m0' },
      },
    };
    const shapes: Shapes = { 'm.weight': ['U8', [32, 32]], 'm.weight_scale': ['U8', [32, 2]] };
    expect(await readOne(quark, shapes)).toMatchObject({
      codes: { type: 'float4_e2m1' },
      scales: { type: 'exponent', group: [1, 32] },
    });
    await expect(
      read({ quant_method: 'quark', global_quant_config: { weight: { dtype: 'uint4' } } }, {}),
    ).rejects.toThrow(/weight\.dtype is "uint4"/);
  });
});

describe('mlx', () => {
  const affine = (bits: number): Shapes => ({
    'm.weight': ['U32', [16, (128 * bits) / 32]],
    'm.scales': ['BF16', [16, 2]],
    'm.biases': ['BF16', [16, 2]],
  });
  it.each([2, 3, 4, 5, 6, 8])('%i bits', async (bits) => {
    const one = await readOne({ quant_method: 'mlx', bits, group_size: 64 }, affine(bits));
    expect(one).toMatchObject({ shape: [16, 128], codes: { bits, order: 'rows' } });
    expect(one.zero).toBeUndefined();
  });

  it.each([
    ['mxfp4', 4, 32, 'exponent', 'U8'],
    ['mxfp8', 8, 32, 'exponent', 'U8'],
    ['nvfp4', 4, 16, 'float', 'F8_E4M3'],
  ])('%s', async (mode, bits, group, type, dtype) => {
    const shapes: Shapes = {
      'm.weight': ['U32', [16, (128 * bits) / 32]],
      'm.scales': ['U8', [16, 128 / group]],
    };
    const one = await readOne({ quant_method: 'mlx', mode, bits, group_size: group }, shapes);
    expect(one.scales).toMatchObject({ type, group: [1, group], tensor: { dtype } });
    await expect(readOne({ quant_method: 'mlx', mode, bits: 6 }, shapes)).rejects.toThrow(/m\.weight.*mode/);
  });

  it('a module may have settings of its own, and plain ones are left alone', async () => {
    const shapes: Shapes = { ...affine(8), 'n.weight': ['BF16', [16, 128]] };
    const settings = {
      quant_method: 'mlx',
      bits: 4,
      group_size: 64,
      m: { bits: 8, group_size: 64 },
      n: false,
    };
    expect((await readOne(settings, shapes)).codes.bits).toBe(8);
  });
});

describe('bitsandbytes', () => {
  const state = (more = {}) =>
    Buffer.from(JSON.stringify({ quant_type: 'nf4', blocksize: 64, shape: [32, 48], ...more }));
  const key = 'm.weight.quant_state.bitsandbytes__nf4';
  const nf4 = (json: Buffer): Shapes => ({
    'm.weight': ['U8', [768, 1]],
    'm.weight.absmax': ['F32', [24]],
    'm.weight.quant_map': ['F32', [16]],
    [key]: ['U8', [json.length]],
  });

  it('nf4 without double quantization has float maxima', async () => {
    const one = await readOne({ quant_method: 'bitsandbytes' }, nf4(state()), { [key]: state() });
    expect(one).toMatchObject({
      shape: [32, 48],
      codes: { order: 'rows_high_first' },
      scales: { group: 64 },
    });
  });

  it.each<[string, object, RegExp]>([
    ['a shape that the codes do not fill', { shape: [32, 50] }, /m\.weight.*should hold.*\[32,50\]/],
    ['no size of a block', { blocksize: 0 }, /quant_state.*blocksize is 0/],
  ])('is refused with %s', async (_, more, message) => {
    const json = state(more);
    await expect(readOne({ quant_method: 'bitsandbytes' }, nf4(json), { [key]: json })).rejects.toThrow(
      message,
    );
  });

  it('is refused where its state is no JSON', async () => {
    const json = Buffer.from('{"blocksize": ');
    await expect(readOne({ quant_method: 'bitsandbytes' }, nf4(json), { [key]: json })).rejects.toThrow(
      /quant_state.*JSON/,
    );
  });

  it('int8 is divided by 127, in the layout of rows only', async () => {
    const shapes: Shapes = {
      'm.weight': ['I8', [32, 48]],
      'm.SCB': ['F32', [32]],
      'm.weight_format': ['U8', []],
    };
    const one = await readOne({ quant_method: 'bitsandbytes' }, shapes);
    expect(one.scales).toMatchObject({ divisor: 127, group: [1, 48] });
    const format = { 'm.weight_format': Buffer.of(2) };
    await expect(readOne({ quant_method: 'bitsandbytes' }, shapes, format)).rejects.toThrow(
      /m\.weight_format.*row/,
    );
  });
});

it('names of activations and caches are passed over', async () => {
  const shapes: Shapes = {
    'm.weight': ['F8_E4M3', [16, 16]],
    'm.weight_scale': ['F32', []],
    'm.input_scale': ['F32', []],
    'm.k_scale': ['F32', []],
  };
  await readOne({ quant_method: 'modelopt', quant_algo: 'FP8' }, shapes);
});
