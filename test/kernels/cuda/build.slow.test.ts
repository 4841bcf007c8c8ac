import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { root } from '../native-program.ts';

const exec = promisify(execFile);
const buildFolder = join(root, 'kernels/build/cuda');
const folders = [process.env.CUDA_HOME, process.env.CUDA_PATH].flatMap((home) =>
  home ? [join(home, 'bin')] : [],
);
folders.push(...(process.env.PATH ?? '').split(delimiter), '/usr/local/cuda/bin');
const hasNvcc = folders.some((folder) => existsSync(join(folder, 'nvcc')));

describe.skipIf(!hasNvcc)(`the CUDA build${hasNvcc ? '' : ' (skipped: nvcc is not installed)'}`, () => {
  let output: string;
  let kernels: string[];
  beforeAll(async () => {
    output = (await exec(process.execPath, [join(root, 'scripts/build-cuda.mjs')])).stdout;
    kernels = readFileSync(join(buildFolder, 'ptxas.txt'), 'utf8').trim().split('\n');
  });

  it('builds the library for sm_80 and sm_90a without a warning', () => {
    expect(existsSync(join(root, 'kernels/build/libswitchyard_cuda.so'))).toBe(true);
    expect(readFileSync(join(buildFolder, 'compile.log'), 'utf8')).not.toMatch(/warning/i);
    for (const target of ['sm_80', 'sm_90a']) {
      expect(kernels.filter((line) => line.startsWith(`${target} `)).length).toBeGreaterThan(40);
    }
  });

  it('keeps the warpgroup products of the sm_90a kernel in flight', () => {
    expect(readFileSync(join(buildFolder, 'compile.log'), 'utf8')).not.toMatch(
      /wgmma.*serialized|is injected/,
    );
  });

  it('says whether cuBLASLt took part', () => {
    expect(output).toMatch(/cuBLASLt (from|left out)/);
  });

  it.each([
    'moe_plan_kernel',
    'gemv_kernel',
    'moe_plain_gate_up_kernel',
    'moe_plain_down_kernel',
    'moe_gate_up_gemv_kernel',
    'moe_down_gemv_kernel',
    'moe_gate_up_gemv_transposed_kernel',
    'moe_down_gemv_transposed_kernel',
    'moe_coded_gate_up_kernel',
    'moe_coded_down_kernel',
    'moe_grouped_mm_kernel',
    'moe_grouped_mm_sm90_kernel',
    'linear_coded_gemv_kernel',
    'linear_coded_rows_kernel',
    'linear_coded_tile_kernel',
    'moe_combine_kernel',
    'output_gate_kernel',
    'router_few_tokens_kernel',
    'router_topk_kernel',
    'attention_prepare_kernel',
    'attention_prefill_kernel',
    'attention_decode_kernel',
    'attention_plain_kernel',
    'attention_combine_kernel',
    'block_key_kernel',
    'block_score_kernel',
    'block_choice_kernel',
    'causal_conv_kernel',
    'causal_conv_keep_kernel',
    'ngram_rows_kernel',
    'top_candidates_kernel',
  ])('%s spills no registers and keeps nothing in local memory', (kernel) => {
    const found = kernels.filter((line) => line.includes(`${kernel.length}${kernel}`));
    expect(found.length).toBeGreaterThan(0);
    for (const line of found) expect(line).toMatch(/stack 0 spill_stores 0 spill_loads 0$/);
  });
});
