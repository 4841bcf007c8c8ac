import { describe, expect, test } from 'vitest';
import { describeDiagnosis } from '../../src/doctor/describe.ts';
import { diagnose } from '../../src/doctor/diagnose.ts';
import type { CudaDevices, EngineStatus } from '../../src/runtime/engine-status.ts';
import {
  COMPILERS,
  type Description,
  DRIVER,
  ENGINE,
  LIBRARIES,
  machine,
  PROVIDER,
  SMI,
} from '../runtime/requirements/machines.ts';

const WORKING: EngineStatus = {
  addon: { path: '/app/kernels/build/switchyard.node', origin: 'compiled' },
  libc: { name: 'glibc', version: '2.36' },
  library: ENGINE,
  working: { version: '1.30.0', cpu: { isa: 'avx2', features: ['avx2', 'portable'] } },
  fault: undefined,
};
const THREADS = { threads: 3, cpus: 8, cores: 4, quota: 3 };
const H200 = {
  ...{ name: 'NVIDIA H200', pciId: '0000:65:00.0', major: 9, minor: 0 },
  ...{ totalBytes: 140 * 2 ** 30, freeBytes: 139.5 * 2 ** 30 },
};
const NO_GPUS = { devices: [], fault: undefined };
const diagnosisOf = (description: Description, engine = WORKING, gpus: CudaDevices = NO_GPUS) =>
  diagnose(machine(description), engine, THREADS, gpus);
const COMPLETE = {
  files: { ...PROVIDER, ...LIBRARIES, ...DRIVER },
  programs: { ...SMI, ...COMPILERS },
};

/** CUDA's machines have Linux's paths, which Windows joins otherwise. */
const withPaths = test.skipIf(process.platform === 'win32');

describe('diagnose', () => {
  withPaths('has no step for a machine that has everything, and uses its GPU', async () => {
    const diagnosis = await diagnosisOf(COMPLETE, WORKING, { devices: [H200], fault: undefined });
    expect(diagnosis).toMatchObject({ ok: true, device: 'cuda', providers: ['CPU', 'CUDA'], steps: [] });
    expect(diagnosis.compiler).toEqual({ command: 'c++', version: 'c++ (Debian 12.2.0-14) 12.2.0' });
    expect(diagnosis.nvcc).toEqual({ command: 'nvcc', version: 'release 12.9' });
    const text = describeDiagnosis(diagnosis);
    expect(text).toContain('models run here, on the CPU with the avx2 kernels and 3 threads');
    expect(text).toMatch(
      /formats +.* in place; .* is rounded to int8, but in float32, and multiplied by AVX2\n/,
    );
    expect(text).toContain('and with device cuda on the NVIDIA H200');
    expect(text).toContain('NVIDIA H200, compute capability 9.0, 139.5 of 140.0 GiB free');
    expect(text).toContain('4 physical cores among the 8 CPUs this process may use, and a quota of 3 CPUs');
    expect(text).toContain('NVIDIA H200, 140.4 GiB');
    expect(text).not.toContain('missing');
  });

  test('uses the CPU where the CUDA library does not get to a GPU, and says why', async () => {
    const diagnosis = await diagnosisOf(COMPLETE, WORKING, { devices: [], fault: 'no driver' });
    expect(diagnosis.device).toBe('cpu');
    expect(describeDiagnosis(diagnosis)).toMatch(/usable +no driver\n/);
  });

  test('a machine without compilers runs, but cannot rebuild', async () => {
    const { ok, steps } = await diagnosisOf({ ...COMPLETE, files: {}, programs: SMI });
    expect(ok).toBe(true);
    expect(steps.filter(({ neededFor }) => neededFor === 'rebuilding')).toEqual([
      {
        neededFor: 'rebuilding',
        what: 'a C++20 compiler: tried c++, g++, clang++',
        step: expect.stringContaining('apt install g++'),
      },
    ]);
    expect(steps).toContainEqual({
      neededFor: 'CUDA',
      what: 'nvcc, to compile the kernels',
      step: expect.stringContaining('CUDA_HOME'),
    });
  });

  withPaths('with a prebuilt addon and CUDA library no compiler is missed', async () => {
    const addon = { path: '/app/prebuilds/linux-x64/switchyard.node', origin: 'prebuilt' } as const;
    const diagnosis = await diagnosisOf({ ...COMPLETE, programs: SMI }, { ...WORKING, addon });
    expect(diagnosis.steps).toEqual([]);
    const text = describeDiagnosis(diagnosis);
    expect(text).toMatch(/C library +glibc 2\.36\n/);
    expect(text).toMatch(/addon +\/app\/prebuilds\/linux-x64\/switchyard\.node, prebuilt\n/);
  });

  withPaths('tries the compiler that CXX names, as the build does, and nvcc where CUDA is', async () => {
    const env = { CXX: 'ccache g++-13', CUDA_HOME: '/opt/cuda' };
    const programs = { ...COMPILERS, ccache: 'g++ 13\n', '/opt/cuda/bin/nvcc': 'release 13.0' };
    const diagnosis = await diagnosisOf({ env, programs });
    expect(diagnosis.compiler).toEqual({ command: 'ccache g++-13', version: 'g++ 13' });
    expect(diagnosis.nvcc?.command).toBe('/opt/cuda/bin/nvcc');
    const missing = await diagnosisOf({ env, programs: COMPILERS });
    expect(missing.steps).toContainEqual(
      expect.objectContaining({ what: 'a C++20 compiler: tried ccache g++-13' }),
    );
  });

  test('a machine whose engine does not load cannot run models; the fault is the first step', async () => {
    const library = { ...ENGINE, found: false, fromEnvironment: true };
    const fault = 'there is no /app/ort/libonnxruntime.so.1';
    const diagnosis = await diagnosisOf(COMPLETE, { ...WORKING, library, working: undefined, fault });
    expect(diagnosis).toMatchObject({ ok: false, providers: [] });
    expect(diagnosis.steps[0]).toEqual({ neededFor: 'running', what: 'a working engine', step: fault });
    const text = describeDiagnosis(diagnosis);
    expect(text).toContain('models cannot run here');
    expect(text).toContain('libonnxruntime.so.1: missing (named by SWITCHYARD_ONNXRUNTIME)');
  });

  test('tells a machine with nothing from NVIDIA what CUDA would need, if that is asked', async () => {
    const diagnosis = await diagnosisOf({ programs: COMPILERS });
    expect(diagnosis.steps.map(({ neededFor }) => neededFor)).toEqual(['CUDA', 'CUDA', 'CUDA', 'CUDA']);
    const text = describeDiagnosis(diagnosis);
    expect(text).toContain('`switchyard doctor --cuda` lists what device cuda needs\n');
    expect(text).not.toMatch(/nvcc|libcuda|missing/);
    expect(describeDiagnosis(diagnosis, true)).toMatch(
      /^4\. for CUDA: an NVIDIA driver.*\n {3}→ install NVIDIA's/m,
    );
  });

  test.each(['win32', 'darwin'])(
    'says nothing of what CUDA would need on %s, where it cannot be',
    async (platform) => {
      const diagnosis = await diagnosisOf({ platform, programs: COMPILERS });
      expect(diagnosis).toMatchObject({ ok: true, device: 'cpu', steps: [] });
      const text = describeDiagnosis(diagnosis);
      expect(text).toContain('device cuda is for Linux; models run on the CPU here\n');
      expect(text).not.toMatch(/nvcc|libcuda|driver|missing/);
    },
  );

  test('wants no compiler on Windows', async () => {
    const addon = { path: 'C:\\p\\switchyard.node', origin: 'missing' } as const;
    const diagnosis = await diagnosisOf({ platform: 'win32' }, { ...WORKING, addon });
    expect(diagnosis.steps).toEqual([]);
    expect(describeDiagnosis(diagnosis)).not.toMatch(/compiler|apt install/);
  });
});
