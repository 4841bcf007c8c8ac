import { testNative } from '../cases.ts';
import { KERNEL_CASES, KERNEL_TESTS } from './emulation.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
if (process.platform === 'linux') {
  testNative('the CUDA kernels, emulated on the CPU: a part', KERNEL_TESTS, KERNEL_CASES, [
    'unusual routings',
    'device plan equals host plan',
    'top-k of NaN stays in range',
    'gated MLP matches the reference',
    'linear matches the reference',
    'codes are what the specification says',
    'gated MLP over codes matches the reference',
    'rows are read from the device',
    'attention refuses sizes that do not fit',
    'top candidates match a sort',
    'a gated delta net refuses rows that do not fit',
    'equal scores keep the first blocks',
    'a causal convolution matches the reference',
    'hashes of n-grams wrap around',
  ]);
}
