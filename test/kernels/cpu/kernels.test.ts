import { describe, expect, it } from 'vitest';
import { buildNative, runNative } from '../native-program.ts';
import { CPU_KERNELS } from '../programs.ts';

// Built at once, because it knows the names of the tests.
const program = await buildNative(CPU_KERNELS);
const run = async (args: readonly string[], isa?: string) =>
  (await runNative(program, args, isa === undefined ? {} : { SWITCHYARD_CPU_ISA: isa })).stdout;
const groups = (await run(['--list'])).trim().split('\n');

describe('CPU kernels', () => {
  it.each(groups)('%s', async (group) => {
    expect(await runNative(program, [group])).toEqual({ stdout: `ok   ${group}\n`, stderr: '' });
  });

  it('refuses a test group it does not know', async () => {
    await expect(run(['no such group'])).rejects.toThrow('no group of that name');
  });

  it('follows SWITCHYARD_CPU_ISA', async () => {
    expect(await run(['--isa'], 'portable')).toBe('portable\n');
  });

  it('says which instruction sets there are when SWITCHYARD_CPU_ISA names none of them', async () => {
    const stdout = await run(['--isa'], 'mmx');
    expect(stdout.split('\n')[0]).toBe((await run(['--isa'], '')).trim());
    expect(stdout).toContain('SWITCHYARD_CPU_ISA is "mmx"');
    expect(stdout).toContain('portable');
  });
});
