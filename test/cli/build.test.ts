import { afterEach, describe, expect, test, vi } from 'vitest';
import { run } from './capture.ts';

afterEach(() => vi.unstubAllEnvs());

describe('switchyard build', () => {
  test('says what the compiler lacks on stderr, and exits with 1', async () => {
    vi.stubEnv('CXX', '/nowhere/c++');
    const { exitCode, stdout, stderr } = await run(['build']);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
    expect(stderr).toMatch(
      /needs a C\+\+20 compiler; tried \/nowhere\/c\+\+ .*\nerror: the native code was not compiled/s,
    );
  });

  test('--cuda tells nvcc what to compile for', async () => {
    vi.stubEnv('PATH', '/nowhere');
    vi.stubEnv('CUDA_HOME', '/nowhere');
    const { exitCode, stderr } = await run(['build', '--cuda', '--arch', 'sm_x']);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^build-cuda: /);
  });

  test('--arch belongs to --cuda', async () => {
    const { exitCode, stderr } = await run(['build', '--arch', '80']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('--arch goes with --cuda');
  });
});
