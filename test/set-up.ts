/** Runs before every test file: neither settings nor folders of whoever runs the tests reach them, nor the other way round. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const THEIRS = /^(HF_|HUGGING_?FACE|TRANSFORMERS_OFFLINE$|(https?|all|no)_proxy$)/i;

const folder = mkdtempSync(join(tmpdir(), 'switchyard-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const name of Object.keys(process.env)) if (THEIRS.test(name)) delete process.env[name];
process.env.HF_HOME = join(folder, 'huggingface');
process.env.SWITCHYARD_CACHE = join(folder, 'switchyard');
