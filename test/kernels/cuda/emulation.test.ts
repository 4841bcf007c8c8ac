import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildProgram, casesOf, cudaFolder, runCase, testFolder, warningOptions } from './native.ts';

const cases = [
  'all types and layouts',
  'sizes without 16-byte rows',
  'tensor-core tiles',
  'tensor-core tiles in two stages',
  'warpgroup tiles',
  'warpgroup tiles not built',
  'unusual routings',
  'device plan equals host plan',
  'top-k chooses as the reference',
  'top-k of NaN stays in range',
  'router matches the reference',
  'gated MLP matches the reference',
  'linear matches the reference',
  'embedding rows and conversion',
  'attention over a cache matches the reference',
  'decoding reads positions from the device',
  'positions outside the cache write zeros',
  'attention in wide blocks',
  'attention without a cache matches the reference',
  'attention refuses sizes that do not fit',
  'top candidates match a sort',
  'calls are counted and blocks copied',
];

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('the CUDA kernels, emulated on the CPU', () => {
  let program: string;
  beforeAll(async () => {
    const kernels = readdirSync(cudaFolder)
      .filter((name) => /\.(cu|cc)$/.test(name) && name !== 'gemm_cublaslt.cc')
      .map((name) => join(cudaFolder, name));
    const options = [...warningOptions, '-I', join(testFolder, 'emulator')];
    const tests = ['emulation_test.cc', 'decoder_cases.cc'].map((name) => join(testFolder, name));
    program = await buildProgram('emulation', [...kernels, ...tests], options);
  }, 300_000);

  it('has every native case listed here', () => expect(casesOf(program)).toEqual(cases));
  it.each(cases)('%s', { timeout: 120_000 }, (name) => runCase(program, name));
});
