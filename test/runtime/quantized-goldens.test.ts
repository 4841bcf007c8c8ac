/** Every storage of published quantized checkpoints, dequantized, against float32 values of independent dequantizers. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import type { QuantizedTensor } from '../../src/weights/quantized-tensor.ts';
import { readJson } from '../helpers/goldens.ts';
import { type Dequantized, QUANTIZED_FOLDER } from '../helpers/quantized-goldens.ts';

/** A part by its suffix, or by the first of several that there is. */
type Parts = (...suffixes: string[]) => TensorInfo;
type Storage = Omit<QuantizedTensor, 'name' | 'shape'>;

const nvfp4 = (part: Parts, weight: string): Pick<QuantizedTensor, 'codes' | 'scales'> => ({
  codes: { tensor: part(weight), type: 'float4_e2m1', bits: 4, order: 'rows' },
  scales: { tensor: part('weight_scale'), type: 'float', group: [1, 16] },
});
/** How a module of each golden is stored; `columns` of its weight. */
const STORAGES: Record<string, (part: Parts, columns: number, rows: number) => Storage> = {
  qwen3_moe_fp8: (part) => ({
    codes: {
      tensor: part('weight'),
      type: 'float8_e4m3',
      bits: 8,
      order: 'rows',
    },
    scales: {
      tensor: part('weight_scale_inv'),
      type: 'float',
      group: [128, 128],
    },
  }),
  qwen3_vl_moe_fp8: (part) => {
    const scale = part('_scale_inv', 'weight_scale_inv');
    return {
      codes: {
        tensor: part('', 'weight'),
        type: 'float8_e4m3',
        bits: 8,
        order: 'rows',
      },
      scales: { tensor: scale, type: 'float', group: [128, 128] },
    };
  },
  qwen3_moe_gptq: (part, columns) => gptq(part, columns),
  qwen2_moe_gptq: (part, columns) => gptq(part, columns),
  qwen3_moe_autoround: (part, columns) => gptq(part, columns, false),
  qwen3_moe_awq: (part) => ({
    codes: { tensor: part('qweight'), type: 'uint', bits: 4, order: 'awq' },
    scales: {
      tensor: part('scales'),
      type: 'float',
      group: [1, 32],
      transposed: true,
    },
    zero: { tensor: part('qzeros'), order: 'awq' },
  }),
  qwen3_moe_ct_w4a16: (part) => ({
    codes: {
      tensor: part('weight_packed'),
      type: 'uint',
      bits: 4,
      order: 'rows',
    },
    scales: { tensor: part('weight_scale'), type: 'float', group: [1, 32] },
    zero: 8,
  }),
  qwen3_moe_ct_w8a8: (part, columns) => ({
    codes: { tensor: part('weight'), type: 'int', bits: 8, order: 'rows' },
    scales: {
      tensor: part('weight_scale'),
      type: 'float',
      group: [1, columns],
    },
  }),
  qwen3_moe_ct_fp8: (part, columns) => ({
    codes: {
      tensor: part('weight'),
      type: 'float8_e4m3',
      bits: 8,
      order: 'rows',
    },
    scales: {
      tensor: part('weight_scale'),
      type: 'float',
      group: [1, columns],
    },
  }),
  qwen3_moe_ct_nvfp4: (part) => {
    const { codes, scales } = nvfp4(part, 'weight_packed');
    return {
      codes,
      scales: { ...scales, divisor: part('weight_global_scale') },
    };
  },
  qwen3_moe_modelopt_nvfp4: (part) => {
    const { codes, scales } = nvfp4(part, 'weight');
    return { codes, scales: { ...scales, multiplier: part('weight_scale_2') } };
  },
  qwen3_moe_ct_mxfp4: (part) => ({
    codes: {
      tensor: part('weight_packed'),
      type: 'float4_e2m1',
      bits: 4,
      order: 'rows',
    },
    scales: { tensor: part('weight_scale'), type: 'exponent', group: [1, 32] },
  }),
  qwen3_moe_bnb_nf4: (part, columns, rows) => ({
    codes: {
      tensor: part('weight'),
      type: 'table',
      bits: 4,
      order: 'rows_high_first',
      table: part('weight.quant_map'),
    },
    scales: {
      tensor: part('weight.absmax'),
      type: 'table',
      group: Math.ceil((rows * columns) / (part('weight.absmax').shape[0] as number)),
      table: {
        values: part('weight.nested_quant_map'),
        scales: part('weight.nested_absmax'),
        groupSize: 256,
        offset: nestedOffset(part),
      },
    },
  }),
  qwen3_moe_mlx_4bit: (part, columns) => ({
    codes: {
      tensor: part('weight'),
      type: 'uint',
      bits: ((part('weight').shape.at(-1) as number) * 32) / columns,
      order: 'rows',
    },
    scales: { tensor: part('scales'), type: 'float', group: [1, 64] },
    biases: part('biases'),
  }),
};

function gptq(part: Parts, columns: number, withGroups = true): Storage {
  const bits = ((part('qweight').shape[0] as number) * 32) / columns;
  const groups = part('scales').shape[0] as number;
  return {
    codes: { tensor: part('qweight'), type: 'uint', bits, order: 'columns' },
    scales: {
      tensor: part('scales'),
      type: 'float',
      group: [1, columns / groups],
      transposed: true,
    },
    zero: 2 ** (bits - 1),
    ...(withGroups ? { columnGroups: part('g_idx') } : {}),
  };
}

/** Part `index` of `count` of a stacked tensor. */
function slice(tensor: TensorInfo, index: number): TensorInfo {
  const [count = 1, ...shape] = tensor.shape;
  const byteLength = tensor.byteLength / count;
  return {
    ...tensor,
    shape,
    byteLength,
    offset: tensor.offset + index * byteLength,
  };
}

/** The parts of a module: beside its weight's name, or, of an expert, where MLX stacks them. */
function partsOf(tensors: ReadonlyMap<string, TensorInfo>, weight: string): Parts {
  const module = weight.replace(/\.weight$/, '');
  const [, expert] = /\.experts\.(\d+)\./.exec(module) ?? [];
  const stacked = module.replace(/\.experts\.\d+\./, '.switch_mlp.');
  const find = (name: string, suffix: string) =>
    tensors.get(`${name}.${suffix}`) ?? tensors.get(`${name}${suffix}`);
  return (...suffixes) => {
    const [own] = suffixes.flatMap((suffix) => find(module, suffix) ?? []);
    const [all] = suffixes.flatMap((suffix) => find(stacked, suffix) ?? []);
    if (!own && !all) throw new Error(`no ${suffixes} of ${weight}`);
    return own ?? slice(all as TensorInfo, Number(expert));
  };
}

function nestedOffset(part: Parts): number {
  const { file, offset, byteLength } = part('weight.quant_state.bitsandbytes__nf4');
  const state = JSON.parse(readFileSync(file).toString('utf8', offset, offset + byteLength)) as {
    nested_offset: number;
  };
  return state.nested_offset;
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

describe.each(Object.keys(STORAGES))('%s', (format) => {
  const folder = join(QUANTIZED_FOLDER, format);
  const { dequantized } = readJson<{ dequantized: Dequantized[] }>(folder, 'expected.json');

  it('gives the float32 values that its formula says', async () => {
    const { tensors } = await openCheckpoint(new FolderRepo(format, folder));
    const quantized = dequantized.map(({ weight, shape }) => {
      const [rows, columns] = shape.slice(-2) as [number, number];
      const storage = (STORAGES[format] as (typeof STORAGES)[string])(
        partsOf(tensors, weight),
        columns,
        rows,
      );
      return { name: weight, shape, ...storage };
    });
    const store = openWeightStore([], quantized);
    await store.checkScales(dequantized.map(({ weight }) => weight));
    for (const { weight, exact, sha256, first4, last4, sum, l2 } of dequantized) {
      const values = store.readFloat32(weight);
      const close = (actual: number, expected: number) =>
        expect(Math.abs(actual - expected), weight).toBeLessThanOrEqual(3e-7 * Math.abs(expected));
      [...values.subarray(0, 4), ...values.subarray(-4)].forEach((value, i) => {
        close(value, [...first4, ...last4][i] as number);
      });
      const total = (of: (value: number) => number) => values.reduce((sum, value) => sum + of(value), 0);
      expect(total((value) => value)).toBeCloseTo(sum, 4);
      expect(Math.sqrt(total((value) => value * value))).toBeCloseTo(l2, 5);
      if (exact) expect(createHash('sha256').update(bytesOf(values)).digest('hex'), weight).toBe(sha256);
    }
    store.dispose();
  });
});
