import { basename, join } from 'node:path';
import { deviceSources, kernelSources, sharedSources } from '../../../scripts/cuda-sources.mjs';
import { buildNative, filesIn, type NativeProgram, root } from '../native-program.ts';

const tests = join(root, 'test/kernels/cuda');

/** The same for all that runs on the emulation, so that the kernels are compiled once. */
const OPTIONS = ['-O1', '-Wno-unknown-pragmas', '-I', join(tests, 'emulator')];

const cudaKernels = kernelSources.filter((path) => basename(path) !== 'gemm_cublaslt.cc');

/** The program that compares every CUDA kernel with plain loops. */
export const KERNEL_TESTS: NativeProgram = {
  name: 'emulation',
  sources: [
    ...cudaKernels,
    ...deviceSources.filter((path) => /\/(coded_)?contents\.cc$/.test(path)),
    ...filesIn(tests, 'emulation_test.cc', '_cases.cc'),
  ],
  options: OPTIONS,
};

/** Its cases. */
export const KERNEL_CASES = [
  'all types and layouts',
  'matrix-vector products of many steps',
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
  'codes are what the specification says',
  'tiles of codes match their elements',
  'linear over codes matches the reference',
  'experts over codes match the reference',
  'gated MLP over codes matches the reference',
  'attention over a cache matches the reference',
  'rows share blocks',
  'rows are read from the device',
  'places outside the cache give zeros',
  'attention in wide blocks',
  'attention without a cache matches the reference',
  'attention refuses sizes that do not fit',
  'top candidates match a sort',
  'a gated delta net matches its recurrence',
  'a gated delta net refuses rows that do not fit',
  'a sparse index chooses as the reference',
  'equal scores keep the first blocks',
  'a sparse index refuses places outside the cache',
  'attention to selected blocks matches the reference',
  'a causal convolution matches the reference',
  'a causal convolution refuses rows that do not fit',
  'hashes of n-grams wrap around',
  'products of few rows match the reference',
  'products of few rows refuse what does not fit',
  'kernels that start early have to wait',
];

/** Builds the CUDA library over the emulation instead of a GPU. */
export function buildEmulatedLibrary(): Promise<string> {
  return buildNative({
    name: 'libswitchyard_emulated',
    sources: [
      ...cudaKernels,
      ...deviceSources.filter((path) => basename(path) !== 'platform.cc'),
      ...sharedSources,
      join(tests, 'emulator/platform.cc'),
    ],
    options: OPTIONS,
    linkOptions: ['-shared', '-Wl,-z,defs'],
  });
}
