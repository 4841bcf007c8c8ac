import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);

const root = fileURLToPath(new URL('../../..', import.meta.url));
const cpu = join(root, 'kernels/cpu');
const common = join(root, 'kernels/common');
const testSource = join(root, 'test/kernels/cpu/kernels_test.cc');
const buildFolder = join(root, 'kernels/build/test');
const compiler = process.env.CXX ?? 'g++';
const flags = ['-std=c++20', '-O2', '-Wall', '-Wextra', '-pthread'];

function filesIn(folder: string, ...endings: string[]): string[] {
  return readdirSync(folder)
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => join(folder, name))
    .sort();
}

/** Changes with anything a compile could read. */
function contentKey(sources: string[]): string {
  const headers = [...filesIn(cpu, '.h', '.inc'), ...filesIn(common, '.h')];
  const hash = createHash('sha256').update(JSON.stringify([compiler, flags]));
  for (const file of [...headers, ...sources]) hash.update(file).update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

/** Compiles one source unless its object is there already. A half-written object never gets its final name. */
async function compile(source: string): Promise<string> {
  const object = join(buildFolder, `${basename(source, '.cc')}-${contentKey([source])}.o`);
  if (existsSync(object)) return object;
  const partial = `${object}.${process.pid}`;
  await run(compiler, [...flags, '-c', source, '-o', partial]);
  renameSync(partial, object);
  return object;
}

async function buildTestProgram(): Promise<string> {
  mkdirSync(buildFolder, { recursive: true });
  const sources = [testSource, ...filesIn(cpu, '.cc')];
  const program = join(buildFolder, `kernels_test-${contentKey(sources)}`);
  if (existsSync(program)) return program;
  const objects: string[] = [];
  const queue = [...sources];
  const worker = async () => {
    for (let source = queue.shift(); source !== undefined; source = queue.shift()) {
      objects.push(await compile(source));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  const partial = `${program}.${process.pid}`;
  await run(compiler, ['-pthread', ...objects, '-o', partial]);
  renameSync(partial, program);
  return program;
}

/**
 * Runs the program as this machine would, or under what SWITCHYARD_TEST_RUNNER names: with CXX=aarch64-linux-gnu-g++,
 * SWITCHYARD_TEST_RUNNER=qemu-aarch64 and QEMU_LD_PREFIX=/usr/aarch64-linux-gnu the Arm kernels are tested on any machine.
 */
const program = await buildTestProgram();
const [file, leading] = process.env.SWITCHYARD_TEST_RUNNER
  ? [process.env.SWITCHYARD_TEST_RUNNER, [program]]
  : [program, []];
const groups = execFileSync(file, [...leading, '--list'], { encoding: 'utf8' })
  .trim()
  .split('\n');

describe('CPU kernels', () => {
  it.each(groups)('%s', async (group) => {
    const result = await run(file, [...leading, group]).catch(
      (error: { stdout: string; stderr: string }) => error,
    );
    expect(result.stderr).toBe('');
    expect(result.stdout).toBe(`ok   ${group}\n`);
  });

  it('refuses a test group it does not know', async () => {
    await expect(run(file, [...leading, 'no such group'])).rejects.toThrow('no group of that name');
  });

  it('follows SWITCHYARD_CPU_ISA', async () => {
    const env = { ...process.env, SWITCHYARD_CPU_ISA: 'portable' };
    expect((await run(file, [...leading, '--isa'], { env })).stdout).toBe('portable\n');
  });

  it('says which instruction sets there are when SWITCHYARD_CPU_ISA names none of them', async () => {
    const env = { ...process.env, SWITCHYARD_CPU_ISA: 'mmx' };
    const { stdout } = await run(file, [...leading, '--isa'], { env });
    const best = (
      await run(file, [...leading, '--isa'], { env: { ...process.env, SWITCHYARD_CPU_ISA: '' } })
    ).stdout.trim();
    expect(stdout.split('\n')[0]).toBe(best);
    expect(stdout).toContain('SWITCHYARD_CPU_ISA is "mmx"');
    expect(stdout).toContain('portable');
  });
});
