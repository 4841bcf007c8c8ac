import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from './cli/capture.ts';
import { type CompiledSources, compileSources } from './helpers/compile-sources.ts';
import { recipes } from './recipes.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What each program prints. */
const PRINTED: Readonly<Record<string, RegExp>> = {
  'A program that converses': /^\w.+\n\w.+\n$/s,
  'An answer as JSON': /^\{\s*"name":\s*"(Moses|David)",\s*"years":\s*-?\d+\s*\}\n$/,
  'Embeddings of texts': /^-?[01]\.\d\d -?[01]\.\d\d\n$/,
  'A server for other programs': /^\w.+\n$/s,
};

/** The package as programs see it: compiled, with the demo model. */
let compiled: CompiledSources;
let folder: string;
beforeAll(async () => {
  compiled = await compileSources('index.ts', 'server/index.ts');
  const project = dirname(compiled.folder);
  await symlink(join(root, 'configs'), join(project, 'configs'));
  const exports = { '.': './dist/index.js', './server': './dist/server/index.js' };
  const manifest = { name: 'moe-switchyard', type: 'module', version: '0.0.0', exports };
  await writeFile(join(project, 'package.json'), JSON.stringify(manifest));
  folder = join(project, 'recipes');
  await mkdir(folder);
});
afterAll(() => compiled?.remove());

const here = recipes().filter(({ isRunHere }) => isRunHere);
const programs = here.flatMap(({ title, blocks }) =>
  blocks.flatMap(({ language, code }) => (language === 'js' ? [[title, code] as const] : [])),
);

test('every program that is said to be run is', () => {
  expect(programs.map(([title]) => title).sort()).toEqual(Object.keys(PRINTED).sort());
});

test.each(programs)('%s', async (title, code) => {
  const file = join(folder, `${title.replaceAll(' ', '-')}.mjs`);
  await writeFile(file, code);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [file]);
  expect(stdout).toMatch(PRINTED[title] as RegExp);
  expect(stderr).toBe('');
});

const commands = here.flatMap(({ blocks }) =>
  blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.trim().split('\n'))
    .map((line) => line.replace(/ +#.*$/, ''))
    .filter((line) => !line.includes('Qwen/')),
);

test.each(commands)('%s', async (line) => {
  const [npx, name, ...args] = line.split(' ');
  expect([npx, name]).toEqual(['npx', 'moe-switchyard']);
  const { exitCode, stdout } = await run(args);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/tokens\/s.*\n {2}npx moe-switchyard chat -m Qwen\//);
});
