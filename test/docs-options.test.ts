import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LOAD_OPTIONS } from '../src/auto/load-options.ts';
import { PARAMETER_NAMES } from '../src/generation/parameters.ts';
import { OTHER_OPTIONS } from '../src/generation/plan.ts';
import { COMPILE_OPTIONS } from '../src/model/compile.ts';
import { LOGITS_OPTIONS } from '../src/model/forward.ts';
import { PROMPT_OPTIONS } from '../src/model/prompt-options.ts';
import { SERVER_OPTIONS } from '../src/server/options.ts';

const page = (name: string) => readFileSync(join(import.meta.dirname, '../.github/docs', name), 'utf8');

test.each([
  ['fromPretrained', LOAD_OPTIONS, ['api.md']],
  ['generate', [...PARAMETER_NAMES, ...OTHER_OPTIONS, ...PROMPT_OPTIONS], ['api.md', 'routing.md']],
  ['forward', LOGITS_OPTIONS, ['api.md']],
  ['compile', COMPILE_OPTIONS, ['api.md']],
  ['createServer', SERVER_OPTIONS, ['server.md']],
] as const)('every option of %s is named in the reference', (_, names: readonly string[], pages) => {
  const text = pages.map(page).join('\n');
  expect(names.length).toBeGreaterThan(2);
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text))).toEqual([]);
});
