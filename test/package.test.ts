import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const exec = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const MINUTES = 60_000;

/** What `npm pack` makes of the repository, in an empty project whose other packages are those installed here. */
let project: string;
let packed: { filename: string; files: { path: string; size: number }[] };

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'switchyard-package-'));
  await rm(join(root, 'dist'), { recursive: true, force: true });
  await exec('npm', ['run', 'build:ts'], { cwd: root });
  // Scripts are off because `prepare` would compile everything again.
  const { stdout } = await exec(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', project],
    { cwd: root },
  );
  packed = JSON.parse(stdout)[0];
}, 2 * MINUTES);

afterAll(() => rm(project, { recursive: true, force: true }));

describe('the tarball', () => {
  const paths = () => packed.files.map((file) => file.path);

  test('has what an installation needs', () => {
    expect(paths()).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'configs/demo-model/config.json',
        'configs/demo-model/model.safetensors',
        'configs/demo-model/tokenizer.json',
        'dist/cli/main.js',
        'dist/index.d.ts',
        'dist/index.js',
        'scripts/build-native.mjs',
      ]),
    );
  });

  test('has every native source, for the compiler of whoever installs it', async () => {
    const sources = (await readdir(join(root, 'kernels'), { recursive: true }))
      .filter((path) => /^(?!build\/|test\/).*\.(cc|h|cu|cuh)$/.test(path))
      .map((path) => `kernels/${path}`);
    expect(sources.length).toBeGreaterThan(10);
    expect(paths()).toEqual(expect.arrayContaining(sources));
  });

  test('has nothing else', () => {
    const expected =
      /^(LICENSE|README\.md|ARCHITECTURE\.md|package\.json|scripts\/build-(cuda|native)\.mjs)$|^(dist|kernels|configs\/demo-model)\//;
    expect(paths().filter((path) => !expected.test(path))).toEqual([]);
    expect(paths().filter((path) => /^kernels\/(build|test)\/|\.test\./.test(path))).toEqual([]);
  });

  test('has JavaScript and types for each module', async () => {
    const modules = (await readdir(join(root, 'src'), { recursive: true })).filter((path) =>
      path.endsWith('.ts'),
    );
    const expected = modules.flatMap((path) =>
      ['.js', '.d.ts'].map((ending) => `dist/${path.replace(/\.ts$/, ending)}`),
    );
    expect(paths()).toEqual(expect.arrayContaining(expected));
  });
});

describe('installed in an empty project', () => {
  beforeAll(async () => {
    const modules = join(project, 'node_modules');
    await linkInstalledPackages(join(root, 'node_modules'), modules);
    const installed = join(modules, 'moe-switchyard');
    await mkdir(installed);
    await exec('tar', ['-xzf', join(project, packed.filename), '--strip-components=1', '-C', installed]);
    await writeFile(
      join(project, 'package.json'),
      JSON.stringify({ type: 'module', dependencies: { 'moe-switchyard': '*' } }),
    );
    // npm runs the install script and links the command. Unoptimised code compiles several times as fast.
    const env = { ...process.env, CXXFLAGS: '-O0' };
    await exec('npm', ['rebuild', 'moe-switchyard', '--offline'], { cwd: project, env });
    await access(join(installed, 'kernels', 'build', 'switchyard.node'));
  }, 4 * MINUTES);

  test('the library loads the demo model and generates', async () => {
    const script = `
      import { AutoModelForCausalLM, AutoTokenizer, ExpertsInterface } from 'moe-switchyard';
      const folder = 'node_modules/moe-switchyard/configs/demo-model';
      const model = await AutoModelForCausalLM.fromPretrained(folder, { expertsImplementation: 'eager' });
      const tokenizer = await AutoTokenizer.fromPretrained(folder);
      const { sequences } = await model.generate({ ...tokenizer('In the beginning'), maxNewTokens: 4, doSample: false });
      await model.dispose();
      console.log(JSON.stringify({ names: ExpertsInterface.names(), text: tokenizer.decode(sequences[0]) }));
    `;
    const { stdout } = await exec(process.execPath, ['--input-type=module', '--eval', script], {
      cwd: project,
    });
    const { names, text } = JSON.parse(stdout);
    expect(names).toEqual(['batched_mm', 'eager', 'grouped_mm']);
    expect(text).toMatch(/^In the beginning ./);
  });

  test('the command generates without any option but the prompt', async () => {
    const command = join(project, 'node_modules', '.bin', 'switchyard');
    const { stdout } = await exec(
      command,
      ['generate', '--prompt', 'In the beginning', '--temperature', '0'],
      { cwd: project },
    );
    expect(stdout.trim().split(/\s+/).length).toBeGreaterThan(5);
    expect((await exec(command, ['--version'])).stdout.trim()).toBe(await version());
  });
});

async function version(): Promise<string> {
  return JSON.parse(await readFile(join(root, 'package.json'), 'utf8')).version;
}

/** Stands in for the registry: `to` gets a link to each package in `from`. */
async function linkInstalledPackages(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from)) {
    if (entry.startsWith('.')) continue;
    if (entry.startsWith('@')) await linkInstalledPackages(join(from, entry), join(to, entry));
    else await symlink(join(from, entry), join(to, entry));
  }
}
