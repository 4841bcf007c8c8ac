/** Machines that are not at hand. */
import { basename, dirname } from 'node:path';
import type { LibraryFile } from '../../../src/runtime/engine-status.ts';
import type { Answer, Machine } from '../../../src/runtime/requirements/machine.ts';
import { elfFile } from './elf-file.ts';

export interface Description {
  platform?: string;
  arch?: string;
  env?: Record<string, string>;
  /** Path → content; null for a file that is only there. */
  files?: Record<string, Uint8Array | null>;
  /** Program → what it answers, whatever the arguments. */
  programs?: Record<string, string | Answer>;
}

export function machine(description: Description): Machine {
  const { platform = 'linux', arch = 'x64', env = {}, files = {}, programs = {} } = description;
  const paths = Object.keys(files);
  return {
    platform,
    arch,
    env,
    exists: (path) => path in files,
    list: (folder) => [
      ...new Set(
        paths.flatMap((path) => {
          for (let at = path; at !== dirname(at); at = dirname(at))
            if (dirname(at) === folder) return [basename(at)];
          return [];
        }),
      ),
    ],
    read: (path, offset, length) => files[path]?.subarray(offset, offset + length),
    ask: async (program) => {
      const answer = programs[program];
      return typeof answer === 'string' ? { ok: true, text: answer } : answer;
    },
  };
}

export const ENGINE: LibraryFile = {
  path: '/app/ort/libonnxruntime.so.1',
  found: true,
  fromEnvironment: false,
  installer: '/app/ort/script/install.js',
  cudaLibrary: '/app/kernels/libswitchyard_cuda.so',
};

/** Switchyard's CUDA kernels. */
export const KERNELS = { '/app/kernels/libswitchyard_cuda.so': null };
/** They, and a provider linked against CUDA 12 beside the engine. */
export const PROVIDER = {
  ...KERNELS,
  '/app/ort/libonnxruntime_providers_shared.so': null,
  '/app/ort/libonnxruntime_providers_cuda.so': elfFile(
    ['libcublasLt.so.12', 'libcublas.so.12', 'libcudnn.so.9', 'libcudart.so.12', 'libstdc++.so.6'],
    '$ORIGIN',
  ),
};

const FOLDER = '/usr/lib/x86_64-linux-gnu';
export const LIBRARIES = {
  [`${FOLDER}/libcublas.so.12`]: null,
  [`${FOLDER}/libcublasLt.so.12`]: null,
  [`${FOLDER}/libcudart.so.12`]: null,
  [`${FOLDER}/libcudnn.so.9`]: null,
};
export const DRIVER = { [`${FOLDER}/libcuda.so.1`]: null };
export const SMI = {
  'nvidia-smi': 'NVIDIA H200, 143771, 580.95.05\nNVIDIA GB10, [N/A], 580.95.05\n',
};
export const COMPILERS = {
  'c++': 'c++ (Debian 12.2.0-14) 12.2.0\nCopyright\n',
  nvcc: 'Cuda compilation tools, release 12.9, V12.9.41\n',
};
