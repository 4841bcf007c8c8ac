import { expect, it } from 'vitest';
import { terminateWorkers } from './terminations.ts';

it('a thousand workers may be terminated while they load, generate, run, compile, download and dispose', async () => {
  expect(await terminateWorkers(1000)).toBe(1000);
});
