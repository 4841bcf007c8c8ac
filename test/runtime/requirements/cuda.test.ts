import { describe, expect, test } from 'vitest';
import { examineCuda } from '../../../src/runtime/requirements/cuda.ts';
import { elfFile } from './elf-file.ts';
import { type Description, DRIVER, ENGINE, KERNELS, LIBRARIES, machine, PROVIDER, SMI } from './machines.ts';

const examine = (description: Description, engine = ENGINE) => examineCuda(machine(description), engine);
const READY = { files: { ...PROVIDER, ...LIBRARIES, ...DRIVER }, programs: SMI };
const without = (path: string) => {
  const { [path]: _, ...files } = READY.files as Record<string, Uint8Array | null>;
  return { ...READY, files };
};

describe('examineCuda', () => {
  test('finds nothing missing on a machine that has everything', async () => {
    const report = await examine(READY);
    expect(report.lacks).toEqual([]);
    expect(report.major).toBe(12);
    expect(report.gpus).toEqual([
      { name: 'NVIDIA H200', memoryMiB: 143771 },
      { name: 'NVIDIA GB10', memoryMiB: undefined },
    ]);
    expect(report.driverVersion).toBe('580.95.05');
    // Only CUDA's own libraries, as the provider names them.
    expect(report.libraries.map(({ name }) => name)).toEqual([
      'libcublasLt.so.12',
      'libcublas.so.12',
      'libcudnn.so.9',
      'libcudart.so.12',
    ]);
  });

  test('names provider, libraries and driver on a machine with none of them', async () => {
    const { lacks, searched } = await examine({});
    expect(lacks).toEqual([
      {
        what: "Switchyard's CUDA kernels: no /app/kernels/libswitchyard_cuda.so",
        step: 'npx moe-switchyard build --cuda, with nvcc 12.4 or newer',
      },
      {
        what: "ONNX Runtime's CUDA provider: no libonnxruntime_providers_shared.so, libonnxruntime_providers_cuda.so in /app/ort",
        step: 'ONNXRUNTIME_NODE_INSTALL=cuda12 node /app/ort/script/install.js',
      },
      {
        what: 'CUDA 12: no libcudart.so.12, libcublas.so.12, libcublasLt.so.12, libcurand.so.10',
        step: expect.stringContaining('install cuda-libraries-12-9 '),
      },
      { what: 'an NVIDIA driver: no libcuda.so.1', step: expect.stringContaining('--gpus all') },
    ]);
    expect(searched).toEqual([
      'LD_LIBRARY_PATH (not set)',
      'the cache of ldconfig (cannot be read)',
      ...['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/lib64', '/usr/lib64', '/lib', '/usr/lib'],
    ]);
  });

  test('with a driver but no provider, asks for the provider alone where the libraries are there', async () => {
    const curand = { '/lib64/libcurand.so.10': null };
    const { lacks, gpus } = await examine({
      ...READY,
      files: { ...KERNELS, ...LIBRARIES, ...curand, ...DRIVER },
    });
    expect(lacks.map(({ what }) => what)).toEqual([expect.stringContaining('CUDA provider: no')]);
    expect(gpus).toHaveLength(2);
  });

  test('names the one library that is missing', async () => {
    const { lacks } = await examine(without('/usr/lib/x86_64-linux-gnu/libcublas.so.12'));
    expect(lacks).toMatchObject([{ what: 'CUDA 12: no libcublas.so.12' }]);
    const cudnn = await examine(without('/usr/lib/x86_64-linux-gnu/libcudnn.so.9'));
    expect(cudnn.lacks[0]?.step).toMatch(/^install libcudnn9-cuda-12 /);
  });

  test('takes the version of CUDA from the provider', async () => {
    const provider = elfFile(['libcudart.so.13', 'libcublas.so.13', 'libcurand.so.10']);
    const files = { ...READY.files, '/app/ort/libonnxruntime_providers_cuda.so': provider };
    const smi = { 'nvidia-smi': 'NVIDIA A100, 40960, 550.54\n' };
    const report = await examine({ files, programs: smi });
    expect(report.major).toBe(13);
    expect(report.lacks).toEqual([
      {
        what: 'CUDA 13: no libcudart.so.13, libcublas.so.13, libcurand.so.10',
        step: expect.stringContaining('cuda-libraries-13-0'),
      },
      {
        what: 'a driver for CUDA 13: version 550.54 is installed, 580 or newer is needed',
        step: "install NVIDIA's driver 580 or newer",
      },
    ]);
  });

  test('says where a library lies that the loader cannot see', async () => {
    const { files } = without('/usr/lib/x86_64-linux-gnu/libcublas.so.12');
    const cuda = { '/usr/local/cuda-12.9/lib64/libcublas.so.12': null };
    const hidden = { ...READY, files: { ...files, ...cuda } };
    const { lacks } = await examine(hidden);
    expect(lacks).toMatchObject([
      {
        what: expect.stringContaining('libcublas.so.12: present in /usr/local/cuda-12.9/lib64'),
        step: `export LD_LIBRARY_PATH=/usr/local/cuda-12.9/lib64\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}`,
      },
    ]);
    const env = { LD_LIBRARY_PATH: '/elsewhere:/usr/local/cuda-12.9/lib64' };
    expect((await examine({ ...hidden, env })).lacks).toEqual([]);
  });

  test("searches the provider's own folder, and the loader's cache for this architecture", async () => {
    const { files } = without('/usr/lib/x86_64-linux-gnu/libcublas.so.12');
    const beside = { ...files, '/app/ort/libcublas.so.12': null };
    expect((await examine({ ...READY, files: beside })).lacks).toEqual([]);

    const path = '/opt/libraries/libcublas.so.12';
    const cache = (kind: string, target: string) => ({
      ...SMI,
      '/sbin/ldconfig': `2 libs found in cache\n\tlibcublas.so.12 (${kind}) => ${target}\n`,
    });
    const inCache = { ...files, [path]: null };
    const lacks = async (programs: Record<string, string>) =>
      (await examine({ files: inCache, programs })).lacks.length;
    expect(await lacks(cache('libc6,x86-64', path))).toBe(0);
    expect(await lacks(cache('libc6', path))).toBe(1);
    expect(await lacks(cache('libc6,x86-64', '/gone/libcublas.so.12'))).toBe(1);
  });

  test.each([
    [{}, 'nvidia-smi is not installed'],
    [{ 'nvidia-smi': '' }, 'nvidia-smi lists none'],
    [{ 'nvidia-smi': { ok: false, text: 'Driver mismatch\nmore' } }, 'nvidia-smi says: Driver mismatch'],
  ])('says why there is no GPU: %j', async (programs, why) => {
    const { lacks } = await examine({ ...READY, programs });
    expect(lacks).toMatchObject([{ what: `a GPU that answers: ${why}` }]);
  });

  test('sees that a provider is damaged', async () => {
    const files = { ...READY.files, '/app/ort/libonnxruntime_providers_cuda.so': new Uint8Array(80) };
    const { lacks } = await examine({ ...READY, files });
    expect(lacks[0]?.what).toMatch(
      /^a sound CUDA provider: \/app\/ort\/libonnxruntime_providers_cuda\.so is not/,
    );
  });

  test('gives the step that fits the engine', async () => {
    const step = async (description: Description, engine = ENGINE) =>
      (await examine({ files: KERNELS, ...description }, engine)).lacks[0]?.step;
    expect(await step({}, { ...ENGINE, fromEnvironment: true })).toMatch(/SWITCHYARD_ONNXRUNTIME names$/);
    expect(await step({ arch: 'arm64' })).toMatch(
      /^onnxruntime-node has none for linux arm64; set SWITCHYARD_/,
    );
    expect(await step({ platform: 'darwin' })).toBe('use a Linux machine with an NVIDIA GPU');
  });
});
