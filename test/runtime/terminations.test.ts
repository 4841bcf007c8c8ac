import { expect, it } from 'vitest';
import { terminateWorkers } from './terminations.ts';

it('workers may be terminated while they load, generate, run, compile, download and dispose', async () => {
  expect(await terminateWorkers(10)).toBe(10);
});
