import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { documentedPrograms } from './docs-programs.ts';

const root = join(import.meta.dirname, '..');
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');

/** Code without type annotations has parameters of no known type. */
const IMPLICIT_ANY = /\.mjs\(.*error TS7\d\d\d:/;

/** What the compiler says of programs. */
async function faultsOf(programs: readonly { name: string; code: string }[]): Promise<string[]> {
  const cache = join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'switchyard-docs-'));
  try {
    const entry = (path: string) => [join(root, 'src', path)];
    const paths = {
      'moe-switchyard': entry('index.ts'),
      'moe-switchyard/*': entry('*/index.ts'),
    };
    // What `fetch` gives has its type from there.
    const lib = ['ES2023', 'DOM'];
    const compilerOptions = { allowJs: true, checkJs: true, rootDir: root, lib, paths };
    const config = { extends: join(root, 'tsconfig.json'), compilerOptions, include: [folder] };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    for (const { name, code } of programs) await writeFile(join(folder, name), code);
    const { stdout } = await promisify(execFile)(process.execPath, [tsc, '-p', folder], {
      cwd: folder,
    }).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? String(error) }));
    return stdout.split('\n').filter((line) => line !== '' && !IMPLICIT_ANY.test(line));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test('programs of the documentation import what they use, and their types hold', async () => {
  const programs = documentedPrograms().map(({ page, number, language, code }) => ({
    name: `${page.replace('.md', '')}-${number}.${language === 'ts' ? 'mts' : 'mjs'}`,
    code,
  }));
  expect(programs.length).toBeGreaterThan(10);
  const wrong = {
    name: 'wrong.mjs',
    code: "import { nobody } from 'moe-switchyard';\nmodel.generate({ nobody });\n",
  };
  const faults = await faultsOf([...programs, wrong]);
  // The one that is wrong shows that the others are looked at.
  expect(faults.filter((line) => line.startsWith('wrong.mjs'))).toHaveLength(2);
  expect(faults.filter((line) => !line.startsWith('wrong.mjs'))).toEqual([]);
});
