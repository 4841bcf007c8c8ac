import { existsSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../hub/helpers.ts';
import { buildNative, runNative } from './native-program.ts';
import { LOST_PAGES } from './programs.ts';

it('a reader outlives pages that are gone, reads zeros there and learns of it', async () => {
  const file = join(await temporaryFolder(), 'weights.bin');
  const mark = `${file}.mapped`;
  writeFileSync(file, Buffer.alloc(300_000, 'x'));
  const reading = runNative(await buildNative(LOST_PAGES), [file]);
  await Promise.race([reading, expect.poll(() => existsSync(mark)).toBe(true)]);
  truncateSync(file, 5000);
  rmSync(mark);
  expect((await reading).stdout).toMatch(/^it had 300000 bytes, now it has 5000; 29\d{4} zeros\r?\n$/);
});
