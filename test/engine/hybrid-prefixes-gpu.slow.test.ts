import { describe } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { describeSums } from './hybrid-prefixes.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('recurrent states on an emulated GPU', () => {
  useEmulatedGpu();
  describeSums('cuda', 2);
});
