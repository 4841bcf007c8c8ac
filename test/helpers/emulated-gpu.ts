import { afterAll, beforeAll } from 'vitest';
import { buildEmulatedLibrary } from '../kernels/cuda/emulation.ts';

/** Within a `describe`: its tests find an emulated GPU where a card would be. */
export function useEmulatedGpu(): void {
  const before = process.env.SWITCHYARD_CUDA_LIBRARY;
  beforeAll(async () => {
    process.env.SWITCHYARD_CUDA_LIBRARY = await buildEmulatedLibrary();
  });
  afterAll(() => {
    if (before === undefined) delete process.env.SWITCHYARD_CUDA_LIBRARY;
    else process.env.SWITCHYARD_CUDA_LIBRARY = before;
  });
}
