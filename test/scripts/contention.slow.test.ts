import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { goldenModel } from '../helpers/goldens.ts';

const script = fileURLToPath(new URL('../../scripts/contention.mjs', import.meta.url));

test('the measurement of contention gives every ratio', async () => {
  const settings = ['--model', goldenModel('qwen3_moe_d'), '--rounds', '1', '--new', '3', '--loops', '1,2'];
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...settings]);
  const ratio = String.raw`\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\)\n`;
  const lines = [
    `beside 1 loops, of the fair share [^:]+: ${ratio}`,
    `beside 2 loops, of the fair share [^:]+: ${ratio}`,
    `8 × the processors' threads: ${ratio}`,
    // Where a control group may be made.
    `(a quota of \\d+, of \\d+ threads' speed: ${ratio})?`,
  ];
  expect(stdout).toMatch(new RegExp(`^${lines.join('')}$`));
});
