/**
 * Runs before every test file: neither settings nor folders of whoever runs the tests reach them, nor the other way round. What a file
 * leaves among the temporary ones, itself or by a process it started, goes with it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const THEIRS = /^(HF_|HUGGING_?FACE|TRANSFORMERS_OFFLINE$|(https?|all|no)_proxy$)/i;

const folder = mkdtempSync(join(tmpdir(), 'switchyard-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const name of Object.keys(process.env)) if (THEIRS.test(name)) delete process.env[name];
for (const name of ['TMPDIR', 'TEMP', 'TMP']) process.env[name] = folder;
process.env.HF_HOME = join(folder, 'huggingface');
process.env.SWITCHYARD_CACHE = join(folder, 'switchyard');
