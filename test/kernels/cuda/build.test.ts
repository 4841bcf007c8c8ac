import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { root } from '../native-program.ts';

const build = (...args: string[]) =>
  promisify(execFile)(process.execPath, [join(root, 'scripts/build-cuda.mjs'), ...args]);

describe('the CUDA build without nvcc', () => {
  it('succeeds under --if-available and says so', async () => {
    const { stdout } = await build('--if-available', '--nvcc', '/nowhere/nvcc');
    expect(stdout).toMatch(/nvcc not found in \/nowhere\/nvcc/);
  });

  it('fails otherwise, naming where it looked', async () => {
    await expect(build('--nvcc', '/nowhere/nvcc')).rejects.toThrow(/\/nowhere\/nvcc/);
  });
});
