/** What the native programs must pass under either sanitizer; each has a file of its own, so that both compile at the same time. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildFolder, buildNative, runNative, type SANITIZERS } from './native-program.ts';
import {
  COPIED_PAGES,
  CPU_KERNELS,
  CPU_KERNELS_AND_THREADS,
  EXPERT_MEMORY,
  LOW_MEMORY,
  PLANNER,
  RESIDENCY,
  ROW_PANELS,
  WORKER_POOL,
} from './programs.ts';

type Sanitizer = keyof typeof SANITIZERS;

/** Why a sanitizer is of no use here; undefined where it works. */
async function lackOf(sanitizer: Sanitizer): Promise<string | undefined> {
  mkdirSync(buildFolder, { recursive: true });
  const source = join(buildFolder, 'empty.cc');
  writeFileSync(source, 'int main() { return 0; }\n');
  try {
    await runNative(await buildNative({ name: 'empty', sources: [source], options: [], sanitizer }), []);
    return undefined;
  } catch (error) {
    return (error as Error).message.trim().split('\n').at(-1);
  }
}

/** Runs every native program under it. */
export async function describeSanitizer(sanitizer: Sanitizer): Promise<void> {
  const lack = await lackOf(sanitizer);
  const title = `the ${sanitizer} sanitizer${lack ? ` (skipped: it does not work here: ${lack})` : ''}`;
  describe.skipIf(lack !== undefined)(title, () => {
    it('finds nothing in the CPU kernels', async () => {
      // Threads meet in code that all instruction sets share: the sanitizer of threads, under which each takes long, sees the widest.
      const [native, options] =
        sanitizer === 'thread' ? [CPU_KERNELS_AND_THREADS, ['--widest']] : [CPU_KERNELS, []];
      const { stderr } = await runNative(await buildNative({ ...native, sanitizer }), options);
      expect(stderr).toBe('');
    });

    it.each([PLANNER, RESIDENCY, EXPERT_MEMORY, LOW_MEMORY, COPIED_PAGES, ROW_PANELS, WORKER_POOL])(
      'finds nothing in $name',
      async (native) => {
        const program = await buildNative({ ...native, sanitizer });
        const cases = (await runNative(program, [])).stdout.trim().split('\n');
        for (const name of cases) expect((await runNative(program, [name])).stderr).toBe('');
      },
    );
  });
}
