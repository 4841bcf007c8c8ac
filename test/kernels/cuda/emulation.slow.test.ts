import { testNative } from '../cases.ts';
import { KERNEL_CASES, KERNEL_TESTS } from './emulation.ts';

testNative('the CUDA kernels, emulated on the CPU', KERNEL_TESTS, KERNEL_CASES);
