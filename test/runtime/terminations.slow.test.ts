import { expect, it } from 'vitest';
import { terminateWorkers } from './terminations.ts';

it('three hundred workers may be terminated while they load, generate, run, compile, download and dispose', async () => {
  expect(await terminateWorkers(300)).toBe(300);
});
