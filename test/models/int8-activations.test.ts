/** Activations rounded to int8: within what the goldens say that such rounding costs, and refused where it could do nothing. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, DEMO_MODEL, type DType, InputError } from '../../src/index.ts';
import { argmax, maxDifference, readJson } from '../helpers/goldens.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/goldens/quantized');
/** Not qwen2_moe_gptq: most of its matrices have as many rows as the head, and whoever made its bound left such rows exact. */
const NAMES = [
  ...['qwen3_moe_gptq', 'qwen3_moe_awq', 'qwen3_moe_autoround'],
  ...['qwen3_moe_ct_w4a16', 'qwen3_moe_ct_w8a8', 'qwen3_moe_ct_mxfp4', 'qwen3_moe_mlx_4bit'],
];

interface Golden {
  prompts: { input_ids: number[]; argmax: number[]; logits_last: number[] }[];
  not_exact: { activations_in_int8_blocks_of_32: { max_abs_logit_diff: number; same_argmax: boolean } };
}

const load = (model: string, activationQuantization: 'int8' | 'none') =>
  AutoModelForCausalLM.fromPretrained(model, { dtype: 'float32', threads: 2, activationQuantization });

describe.each(NAMES)('%s with activations rounded to int8', (name) => {
  const golden = readJson<Golden>(FOLDER, name, 'expected.json');
  const { max_abs_logit_diff: bound, same_argmax } = golden.not_exact.activations_in_int8_blocks_of_32;

  it('stays as close as the goldens say, on every backend', async () => {
    expect(same_argmax).toBe(true);
    const model = await load(join(FOLDER, name), 'int8');
    let furthest = 0;
    for (const expertsImplementation of ['eager', 'batched_mm', 'grouped_mm'])
      for (const { input_ids, logits_last, argmax: best } of golden.prompts) {
        const { logits } = await model.forward({ inputIds: [input_ids], expertsImplementation });
        const last = (logits.data as Float32Array).slice(-logits_last.length);
        expect(argmax(last)).toBe(best.at(-1));
        furthest = Math.max(furthest, maxDifference(last, logits_last));
      }
    await model.dispose();
    expect(furthest).toBeLessThan(2 * bound);
    // Exact logits are within 1e-4: rounded they were.
    expect(furthest).toBeGreaterThan(1e-4);
  });
});

it('is the default for weights of whole numbers, but in float32', async () => {
  const logits = async (dtype: DType, activationQuantization?: 'int8' | 'none') => {
    const model = await AutoModelForCausalLM.fromPretrained(join(FOLDER, 'qwen3_moe_ct_w4a16'), {
      ...{ dtype, threads: 2 },
      ...(activationQuantization && { activationQuantization }),
    });
    const { logits } = await model.forward({ inputIds: [[1, 2, 3, 4]] });
    const { activationQuantization: said } = model.executionStats;
    await model.dispose();
    return { said, data: [...(logits.data as Float32Array)] };
  };
  expect(await logits('float32')).toEqual(await logits('float32', 'none'));
  const rounded = await logits('bfloat16');
  expect(rounded.said).toBe('int8');
  expect(rounded).toEqual(await logits('bfloat16', 'int8'));
  expect(rounded.data).not.toEqual((await logits('bfloat16', 'none')).data);
});

it('is refused where no weights of whole numbers are', async () => {
  await expect(load(DEMO_MODEL, 'int8')).rejects.toThrow(InputError);
  await expect(load(DEMO_MODEL, 'int8')).rejects.toThrow(/activationQuantization: .*Round them, too/);
  // Numbers of FP8 are none that bytes could be multiplied with, and groups of NVFP4 have 16 columns.
  for (const model of ['qwen3_moe_fp8', 'qwen3_moe_ct_nvfp4'])
    await expect(load(join(FOLDER, model), 'int8')).rejects.toThrow(
      /activationQuantization: .*in groups of 32/,
    );
  await expect(load(DEMO_MODEL, 'int4' as 'int8')).rejects.toThrow(/is "int4"; expected "int8" or "none"/);
});

it('is refused on a GPU', async () => {
  const options = { device: 'cuda', activationQuantization: 'int8' } as const;
  await expect(AutoModelForCausalLM.fromPretrained(DEMO_MODEL, options)).rejects.toThrow(
    /^activationQuantization is "int8", but a GPU computes/,
  );
});
