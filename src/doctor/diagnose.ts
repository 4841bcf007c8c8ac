/** Everything that decides how Switchyard runs on a machine, and what to do about what is missing. */
import { dirname, join } from 'node:path';
import { type CudaDevices, cudaDevices, type EngineStatus, engineStatus } from '../runtime/engine-status.ts';
import { type CudaReport, examineCuda, type Lack } from '../runtime/requirements/cuda.ts';
import { type Machine, thisMachine } from '../runtime/requirements/machine.ts';
import { type ThreadBudget, threadBudget } from '../runtime/threads.ts';

export interface Tool {
  /** The command that starts it. */
  readonly command: string;
  readonly version: string;
}

export interface Diagnosis {
  /** Whether models can be run here at all. */
  readonly ok: boolean;
  readonly node: { readonly version: string; readonly platform: string; readonly arch: string };
  readonly engine: EngineStatus;
  readonly threads: ThreadBudget;
  /** Execution providers of ONNX Runtime whose code is here: `CPU`, and one a provider library beside the engine. */
  readonly providers: readonly string[];
  readonly compiler: Tool | undefined;
  readonly nvcc: Tool | undefined;
  readonly cuda: CudaReport;
  /** The GPUs that Switchyard's CUDA library finds. */
  readonly gpus: CudaDevices;
  /** What device `auto` means here. */
  readonly device: 'cpu' | 'cuda';
  readonly steps: readonly Step[];
}

export interface Step extends Lack {
  /** What it is missing for: running at all, rebuilding the addon, or CUDA. */
  readonly neededFor: 'running' | 'rebuilding' | 'CUDA';
}

/** Whether there are GPUs for Switchyard on a platform. */
export function hasCuda(platform: string): boolean {
  return platform === 'linux';
}

/** Whether something for CUDA is on a machine: a GPU, its driver, or libraries that somebody has got. */
export function hasPartsOfCuda({ node, cuda, gpus }: Diagnosis): boolean {
  const parts = [cuda.kernels, ...cuda.provider, cuda.driver];
  const isThere = cuda.gpus.length + gpus.devices.length > 0 || parts.some(({ path }) => path !== undefined);
  return hasCuda(node.platform) && isThere;
}

/** Whether the addon can be compiled on a platform; that of Windows is compiled on Linux. */
export function isCompiledHere(platform: string): boolean {
  return platform !== 'win32';
}

/** @param machine with `engine`, `threads` and `gpus` for tests: another machine than this one */
export async function diagnose(
  machine: Machine = thisMachine,
  engine: EngineStatus = engineStatus(),
  threads: ThreadBudget = threadBudget(),
  gpus: CudaDevices | undefined = undefined,
): Promise<Diagnosis> {
  const [compiler, nvcc, cuda] = await Promise.all([
    findCompiler(machine),
    findNvcc(machine),
    examineCuda(machine, engine.library),
  ]);
  const found = gpus ?? (await cudaDevices());
  const { platform, arch } = machine;
  return {
    ok: engine.working !== undefined,
    node: { version: process.version, platform, arch },
    engine,
    threads,
    providers: engine.working ? ['CPU', ...providersBeside(machine, engine.library.path)] : [],
    compiler,
    nvcc,
    cuda,
    gpus: found,
    device: engine.working && cuda.lacks.length === 0 && found.devices.length > 0 ? 'cuda' : 'cpu',
    steps: steps(machine, engine, compiler, nvcc, cuda),
  };
}

function steps(
  machine: Machine,
  engine: EngineStatus,
  compiler: Tool | undefined,
  nvcc: Tool | undefined,
  cuda: CudaReport,
): Step[] {
  const found: Step[] = [];
  const { addon, fault } = engine;
  if (fault !== undefined) found.push({ neededFor: 'running', what: 'a working engine', step: fault });
  if (!compiler && addon.origin !== 'prebuilt' && isCompiledHere(machine.platform))
    found.push({ neededFor: 'rebuilding', ...compilerLack(machine) });
  if (!hasCuda(machine.platform)) return found;
  if (!nvcc && !cuda.kernels.path) {
    const step = 'install the CUDA toolkit, and set CUDA_HOME unless it is in /usr/local/cuda';
    found.push({ neededFor: 'CUDA', what: 'nvcc, to compile the kernels', step });
  }
  return [...found, ...cuda.lacks.map((lack): Step => ({ neededFor: 'CUDA', ...lack }))];
}

/** The compilers the build script tries. */
function compilerCandidates(machine: Machine): string[] {
  return machine.env.CXX ? [machine.env.CXX] : ['c++', 'g++', 'clang++'];
}

async function findCompiler(machine: Machine): Promise<Tool | undefined> {
  return firstTool(machine, compilerCandidates(machine), (text) => text.split('\n')[0]?.trim());
}

function compilerLack(machine: Machine): Lack {
  const tried = compilerCandidates(machine).join(', ');
  const step =
    machine.platform === 'darwin'
      ? 'xcode-select --install'
      : 'apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora); CXX names another compiler';
  return { what: `a C++20 compiler: tried ${tried}`, step };
}

async function findNvcc(machine: Machine): Promise<Tool | undefined> {
  const { CUDA_HOME, CUDA_PATH } = machine.env;
  const homes = [CUDA_HOME, CUDA_PATH].filter(Boolean) as string[];
  const candidates = [...homes.map((home) => join(home, 'bin', 'nvcc')), 'nvcc', '/usr/local/cuda/bin/nvcc'];
  return firstTool(machine, candidates, (text) => text.match(/release [\d.]+/)?.[0]);
}

/** The first command that starts and tells its version. */
async function firstTool(
  machine: Machine,
  commands: readonly string[],
  versionIn: (text: string) => string | undefined,
): Promise<Tool | undefined> {
  for (const command of commands) {
    const [program = '', ...args] = command.split(/\s+/).filter(Boolean);
    const answer = await machine.ask(program, [...args, '--version']);
    if (answer?.ok) return { command, version: versionIn(answer.text) || 'unknown version' };
  }
  return undefined;
}

/** `libonnxruntime_providers_cuda.so`, or without `lib` a dll → `CUDA`; the shared part is no provider. */
function providersBeside(machine: Machine, library: string | undefined): string[] {
  if (library === undefined) return [];
  return machine
    .list(dirname(library))
    .flatMap((name) => name.match(/^(?:lib)?onnxruntime_providers_(\w+)\.(?:so|dylib|dll)$/)?.[1] ?? [])
    .filter((name) => name !== 'shared')
    .map((name) => name.toUpperCase());
}
