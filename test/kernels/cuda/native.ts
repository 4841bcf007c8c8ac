import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../../', import.meta.url));
export const cudaFolder = join(root, 'kernels/cuda');
export const testFolder = join(root, 'test/kernels/cuda');
const buildFolder = join(root, 'kernels/build/cuda/test');
const compiler = process.env.CXX ?? 'g++';

function headersTime(): number {
  const kernels = ['common', 'cpu', 'cuda', 'ops', 'ops/cuda'].map((name) => join(root, 'kernels', name));
  const folders = [...kernels, testFolder, join(testFolder, 'emulator')];
  const headers = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => /\.(h|cuh)$/.test(name))
      .map((name) => join(folder, name)),
  );
  return Math.max(...headers.map((path) => statSync(path).mtimeMs));
}

function runCompiler(args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(compiler, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (data) => {
      errors += data;
    });
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`${compiler} ${args.join(' ')}\n${errors}`)),
    );
  });
}

/** Under another name first, so that builds at the same time only repeat each other's work. */
async function compileTo(target: string, args: string[]): Promise<void> {
  const temporary = `${target}.${randomUUID()}`;
  await runCompiler([...args, '-o', temporary]);
  renameSync(temporary, target);
}

/**
 * Builds a native test program with the host's compiler, every warning an error; objects newer than their sources and all
 * headers are kept.
 */
export async function buildProgram(
  name: string,
  sources: string[],
  options: string[],
  linkOptions: string[] = [],
): Promise<string> {
  mkdirSync(buildFolder, { recursive: true });
  const newest = headersTime();
  const program = join(buildFolder, name);
  const objects = sources.map((source) => join(buildFolder, `${name}_${basename(source)}.o`));
  const stale = sources.flatMap((source, i) => {
    const object = objects[i] as string;
    const fresh = existsSync(object) && statSync(object).mtimeMs > Math.max(newest, statSync(source).mtimeMs);
    return fresh ? [] : [{ source, object }];
  });
  const worker = async () => {
    for (let next = stale.pop(); next; next = stale.pop()) {
      const { source, object } = next;
      await compileTo(object, [...options, '-x', 'c++', '-c', source]);
    }
  };
  await Promise.all([worker(), worker()]);
  await compileTo(program, [...linkOptions, ...objects]);
  return program;
}

/** Builds the CUDA library over the emulation instead of a GPU. */
export function buildEmulatedLibrary(): Promise<string> {
  const all = (folder: string, left: string) =>
    readdirSync(folder)
      .filter((name) => /\.(cu|cc)$/.test(name) && name !== left)
      .map((name) => join(folder, name));
  const list = readFileSync(join(root, 'kernels/ops/cuda/shared_sources.json'), 'utf8');
  const shared = JSON.parse(list) as string[];
  const sources = [
    ...all(cudaFolder, 'gemm_cublaslt.cc'),
    ...all(join(root, 'kernels/ops/cuda'), 'platform.cc'),
    ...shared.map((name) => join(root, 'kernels', name)),
    join(testFolder, 'emulator/platform.cc'),
  ];
  const options = [...warningOptions, '-fPIC', '-fvisibility=hidden', '-I', join(testFolder, 'emulator')];
  return buildProgram('libswitchyard_emulated.so', sources, options, ['-shared', '-pthread', '-Wl,-z,defs']);
}

export const warningOptions = ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas'];

/** Runs one case of a native test program; throws with its output when it fails. */
export function runCase(program: string, name: string): void {
  try {
    execFileSync(program, [name], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number | null; stdout: string; stderr: string };
    throw new Error(`${name}: exit status ${status}\n${stdout}${stderr}`);
  }
}

/** The cases a native test program knows. */
export function casesOf(program: string): string[] {
  return execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
}
