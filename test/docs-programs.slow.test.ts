import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { documentedPrograms } from './docs-programs.ts';
import { type CompiledSources, compileSources } from './helpers/compile-sources.ts';

const ENTRIES = ['.', './server', './ai-sdk', './langchain'];

/** The package as programs see it: compiled, with the demo model. */
let compiled: CompiledSources;
let folder: string;
beforeAll(async () => {
  const files = ENTRIES.map((entry) => join(entry, 'index.ts'));
  compiled = await compileSources(...files);
  const project = dirname(compiled.folder);
  for (const name of ['configs', 'src'])
    await symlink(join(import.meta.dirname, '..', name), join(project, name));
  const exports = Object.fromEntries(ENTRIES.map((entry) => [entry, `./${join('dist', entry, 'index.js')}`]));
  const manifest = { name: 'moe-switchyard', type: 'module', version: '0.0.0', exports };
  await writeFile(join(project, 'package.json'), JSON.stringify(manifest));
  folder = join(project, 'programs');
  await mkdir(folder);
});
afterAll(() => compiled?.remove());

/** Here without a Hub, without a GPU, and beside other servers. */
function forHere(code: string): string {
  return (
    code
      .replaceAll(/'Qwen\/[^']+'/g, "'demo'")
      .replace("device: 'cuda', maxMemory: '24GB'", "device: 'cpu'")
      .replace('port: 8000', 'port: 0')
      // What has no end before `maxTokens` is no JSON; the demo never ends a string of its own accord.
      .replace('city: z.string()', "city: z.enum(['Paris', 'Rome'])")
  );
}

// Those of the recipes are run by their own test, which knows what they print.
const programs = documentedPrograms()
  .filter(({ page }) => page !== 'recipes.md')
  .map(({ page, number, code }) => [`${page}, program ${number}`, code] as const);

test.each(programs)('%s, with the demo model', async (name, code) => {
  const file = join(folder, `${name.replaceAll(/\W+/g, '-')}.mjs`);
  await writeFile(file, forHere(code));
  const { stderr } = await promisify(execFile)(process.execPath, [file], { cwd: folder });
  expect(stderr).toBe('');
});
