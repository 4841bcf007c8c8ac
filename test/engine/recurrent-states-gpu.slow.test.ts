import { describe } from 'vitest';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { describeStates, LAYERS } from './recurrent-states.ts';

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();
  describe.each(LAYERS.map((kinds) => [kinds.join(', '), kinds] as const))(
    'states of %s layers',
    (_, kinds) => describeStates('cuda', kinds),
  );
});
