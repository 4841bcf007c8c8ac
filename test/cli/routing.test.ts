import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenModel } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-routing-'));
const file = join(folder, 'run.jsonl');
const generate = [
  'generate',
  '--model',
  goldenModel('qwen3_moe_c'),
  '--input-ids',
  '1,2,3',
  '--max-new-tokens',
  '4',
];
beforeAll(async () => {
  const { exitCode, stderr } = await run([...generate, '--routing', file]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('switchyard routing', () => {
  it('prints figures of what generate has recorded', async () => {
    const { exitCode, stdout } = await run(['routing', file]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('requests: 1; passes: 4; tokens: 3 of prompts, 3 after them');
  });

  it('compares two files', async () => {
    const { stdout } = await run(['routing', file, file]);
    expect(stdout).toMatch(/against the second file\n.*\n +\d+ +0\.0000 +100\.0%/);
  });

  it('writes a page, in silence', async () => {
    const page = join(folder, 'run.html');
    const { exitCode, stdout } = await run(['routing', file, '--html', page]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
    expect(readFileSync(page, 'utf8')).toMatch(/^<!doctype html>/);
  });

  it('says what is wrong with a file, or with where the page is to go', async () => {
    const wrong = await run(['routing', goldenModel('qwen3_moe_c/config.json')]);
    expect(wrong).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/line 1 is not/) });
    const nowhere = await run(['routing', file, '--html', join(folder, 'none/x.html')]);
    expect(nowhere).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/ENOENT.*Name another file/),
    });
  });

  it('counts no more experts and reads no longer lines than models have', async () => {
    const large = join(folder, 'large.jsonl');
    const header = JSON.parse(readFileSync(file, 'utf8').split('\n')[0] as string);
    const layers = Array.from({ length: 4096 }, (_, i) => i);
    writeFileSync(large, JSON.stringify({ ...header, layers, experts: 65_535 }));
    expect((await run(['routing', large])).stderr).toMatch(/4096 layers of 65535 experts; at most 1048576/);
    writeFileSync(large, `${JSON.stringify(header)}\n`);
    truncateSync(large, 65 * 2 ** 20);
    expect((await run(['routing', large])).stderr).toMatch(/line 2 is longer than 67108864/);
  });
});

describe('generate --pin-experts', () => {
  it('keeps the experts of a file at hand, and --stats says how often they were read', async () => {
    const greedy = [...generate, '--temperature', '0'];
    const own = join(folder, 'greedy.jsonl');
    await run([...greedy, '--routing', own]);
    const { exitCode, stderr } = await run([...greedy, '--pin-experts', own, '--stats']);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 0,
      stderr: expect.stringMatching(
        /^pinned +\d+ experts, .* locked; reads of experts that go to them: 100\.0% predicted, 100\.0% measured$/m,
      ),
    });
  });

  it('is refused with a bound below an expert, and the bound without a file', async () => {
    const small = await run([...generate, '--pin-experts', file, '--pin-memory', '1KB']);
    expect(small).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/maxBytes is 1000.*--pin-memory/),
    });
    const alone = await run([...generate, '--pin-memory', '1GB']);
    expect(alone).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/--pin-experts/) });
  });
});

it('generate refuses --routing-weights without a file to record in', async () => {
  const { exitCode, stderr } = await run([...generate, '--routing-weights']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining('--routing') });
});
