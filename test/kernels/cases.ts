import { beforeAll, describe, expect, it } from 'vitest';
import { buildNative, type NativeProgram, runNative } from './native-program.ts';

/** The cases of a native test program as tests. */
export function testNative(title: string, build: NativeProgram, cases: readonly string[]): void {
  describe(title, () => {
    let program: string;
    beforeAll(async () => {
      program = await buildNative(build);
    });

    it('has every native case listed here', async () => {
      const { stdout } = await runNative(program, []);
      expect(stdout.trim().split('\n')).toEqual(cases);
    });
    it.each(cases)('%s', async (name) => {
      await runNative(program, [name]);
    });
  });
}
