import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pack } from './helpers/pack.ts';

const exec = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

describe('the package, compiled in an empty project', () => {
  /** Its other packages are those installed here. */
  let project: string;
  let command: string;
  const generate = ['generate', '--prompt', 'In the beginning', '--temperature', '0'];
  beforeAll(async () => {
    project = await mkdtemp(join(tmpdir(), 'switchyard-package-'));
    const packed = await pack(project);
    const modules = join(project, 'node_modules');
    await linkInstalledPackages(join(root, 'node_modules'), modules);
    const installed = join(modules, 'moe-switchyard');
    await mkdir(installed);
    await exec('tar', ['-xzf', join(project, packed.filename), '--strip-components=1', '-C', installed]);
    await writeFile(
      join(project, 'package.json'),
      JSON.stringify({ type: 'module', dependencies: { 'moe-switchyard': '*' } }),
    );
    // Links the commands; there is no script to run.
    await exec('npm', ['rebuild', 'moe-switchyard', '--offline'], { cwd: project });
    command = join(project, 'node_modules', '.bin', 'moe-switchyard');
    await rm(join(installed, 'prebuilds'), { recursive: true, force: true });
    await expect(exec(command, generate, { cwd: project })).rejects.toThrow(
      /the package is incomplete: .* npx moe-switchyard build/,
    );
    // Unoptimised code compiles several times as fast.
    const env = { ...process.env, CXXFLAGS: '-O0' };
    const { stdout } = await exec(command, ['build'], { cwd: project, env });
    expect(stdout).toBe('');
    await access(join(installed, 'kernels', 'build', 'switchyard.node'));
  });
  afterAll(() => rm(project, { recursive: true, force: true }));

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
    const { stdout } = await exec(command, generate, { cwd: project });
    expect(stdout.trim().split(/\s+/).length).toBeGreaterThan(5);
    const short = join(project, 'node_modules', '.bin', 'switchyard');
    for (const name of [command, short])
      expect((await exec(name, ['--version'])).stdout.trim()).toBe(await version());
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
