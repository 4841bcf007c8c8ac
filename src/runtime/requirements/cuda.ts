/** What CUDA needs, ONNX Runtime's provider above all, and what of it a machine has. Nothing is loaded. */
import { dirname, join } from 'node:path';
import type { LibraryFile } from '../engine-status.ts';
import { BUILD_CUDA } from '../native-files.ts';
import { readDependencies } from './elf.ts';
import { type Library, searchLibraries } from './libraries.ts';
import type { Machine } from './machine.ts';

/** Something missing, and how to get it. */
export interface Lack {
  readonly what: string;
  readonly step: string;
}

export interface Gpu {
  readonly name: string;
  /** Undefined where nvidia-smi does not say, as for a GPU that shares the CPU's memory. */
  readonly memoryMiB: number | undefined;
}

/** What nvidia-smi says of driver and GPUs. */
interface DriverAnswer {
  readonly driverVersion: string | undefined;
  readonly gpus: readonly Gpu[];
  /** Why there are no GPUs to list; undefined where there are. */
  readonly gpuFault: string | undefined;
}

export interface CudaReport extends DriverAnswer {
  /** Switchyard's own kernels. */
  readonly kernels: Library;
  /** The provider's own libraries, which must lie beside the engine. */
  readonly provider: readonly Library[];
  /** Major version of CUDA that the provider is built for; without a provider, of the one onnxruntime-node fetches. */
  readonly major: number;
  /** CUDA's run-time libraries that the provider needs. */
  readonly libraries: readonly Library[];
  readonly driver: Library;
  /** Where libraries were looked for, in order. */
  readonly searched: readonly string[];
  /** Empty where a CUDA provider could run. */
  readonly lacks: readonly Lack[];
}

const PROVIDER = 'libonnxruntime_providers_cuda.so';
const PROVIDER_LIBRARIES = ['libonnxruntime_providers_shared.so', PROVIDER];
/** What the provider that onnxruntime-node can fetch is linked against: CUDA 12. */
const FETCHED = ['libcudart.so.12', 'libcublas.so.12', 'libcublasLt.so.12', 'libcurand.so.10'];
const FETCHED_MAJOR = 12;
const DRIVER = 'libcuda.so.1';
/** Oldest Linux driver for each major version of CUDA (CUDA Toolkit release notes, minor version compatibility). */
const OLDEST_DRIVER: Readonly<Record<number, number>> = { 12: 525, 13: 580 };

/** Looks for everything CUDA needs, from the provider library to the GPU. */
export async function examineCuda(machine: Machine, engine: LibraryFile): Promise<CudaReport> {
  if (machine.platform !== 'linux') return withoutCuda(machine, engine);
  const folder = engine.path === undefined ? undefined : dirname(engine.path);
  const provider = PROVIDER_LIBRARIES.map((name) => besideEngine(machine, folder, name));
  const linked = linkedLibraries(machine, provider.find(({ name }) => name === PROVIDER)?.path);
  const search = await searchLibraries(machine, linked?.runPath);
  const found = {
    kernels: ownKernels(machine, engine),
    provider,
    major: linked?.major ?? FETCHED_MAJOR,
    libraries: (linked?.needed ?? FETCHED).map(search.find),
    driver: search.find(DRIVER),
    searched: search.places,
    ...(await askDriver(machine)),
  };
  return { ...found, lacks: findLacks(found, machine, engine, linked === undefined) };
}

function withoutCuda(machine: Machine, engine: LibraryFile): CudaReport {
  return {
    kernels: ownKernels(machine, engine),
    ...{ provider: [], major: FETCHED_MAJOR, libraries: [], searched: [], gpus: [] },
    driver: { name: DRIVER, path: undefined, unsearched: undefined },
    driverVersion: undefined,
    gpuFault: undefined,
    lacks: [{ what: `CUDA on ${machine.platform}`, step: 'use a Linux machine with an NVIDIA GPU' }],
  };
}

function findLacks(
  found: Omit<CudaReport, 'lacks'>,
  machine: Machine,
  engine: LibraryFile,
  isUnreadable: boolean,
): Lack[] {
  return [
    ...kernelLacks(found.kernels),
    ...providerLacks(found.provider, machine, engine, isUnreadable),
    ...libraryLacks(found.libraries, found.major),
    ...driverLacks(found),
  ];
}

function ownKernels(machine: Machine, { cudaLibrary }: LibraryFile): Library {
  return {
    name: cudaLibrary,
    path: machine.exists(cudaLibrary) ? cudaLibrary : undefined,
    unsearched: undefined,
  };
}

function kernelLacks({ name, path }: Library): Lack[] {
  if (path !== undefined) return [];
  return [{ what: `Switchyard's CUDA kernels: no ${name}`, step: `${BUILD_CUDA}, with nvcc 12.4 or newer` }];
}

function besideEngine(machine: Machine, folder: string | undefined, name: string): Library {
  const path = folder === undefined ? undefined : join(folder, name);
  const isThere = path !== undefined && machine.exists(path);
  return { name, path: isThere ? path : undefined, unsearched: undefined };
}

/** What the provider at hand is linked against, of CUDA; undefined without a readable provider. */
function linkedLibraries(machine: Machine, path: string | undefined) {
  if (path === undefined) return undefined;
  const dependencies = readDependencies((offset, length) => machine.read(path, offset, length));
  if (!dependencies) return undefined;
  const needed = dependencies.needed.filter((name) => /^lib(cu|nv)/.test(name) && name !== DRIVER);
  const version = needed.map((name) => name.match(/^lib(?:cudart|cublas)\.so\.(\d+)/)?.[1]).find(Boolean);
  const runPath = dependencies.runPath.map((entry) => entry.replace(/\$\{?ORIGIN\}?/, dirname(path)));
  return { needed, runPath, major: version === undefined ? FETCHED_MAJOR : Number(version) };
}

async function askDriver(machine: Machine): Promise<DriverAnswer> {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader,nounits'];
  const answer = await machine.ask('nvidia-smi', query);
  if (!answer?.ok) {
    const gpuFault = answer
      ? `nvidia-smi says: ${answer.text.split('\n')[0]}`
      : 'nvidia-smi is not installed';
    return { driverVersion: undefined, gpus: [], gpuFault };
  }
  // A line a GPU: `NVIDIA H200, 143771, 580.95.05`. What is unknown comes in brackets; a name could hold a comma.
  const lines = [...answer.text.matchAll(/^(.+), *(\d+|\[.*\]), *([\d.]+) *$/gm)];
  const gpus = lines.map(([, name = '', memory]) => ({
    name,
    memoryMiB: memory?.startsWith('[') ? undefined : Number(memory),
  }));
  const gpuFault = gpus.length > 0 ? undefined : 'nvidia-smi lists none';
  return { driverVersion: lines[0]?.[3], gpus, gpuFault };
}

function providerLacks(
  provider: readonly Library[],
  machine: Machine,
  engine: LibraryFile,
  isUnreadable: boolean,
): Lack[] {
  const missing = namesOf(provider.filter(({ path }) => path === undefined));
  const step = providerStep(machine, engine);
  if (missing !== '') {
    const folder = engine.path === undefined ? 'an engine for this platform' : dirname(engine.path);
    return [{ what: `ONNX Runtime's CUDA provider: no ${missing} in ${folder}`, step }];
  }
  if (!isUnreadable) return [];
  return [
    { what: `a sound CUDA provider: ${provider.at(-1)?.path} is not a whole 64-bit shared library`, step },
  ];
}

function providerStep(machine: Machine, engine: LibraryFile): string {
  if (engine.fromEnvironment)
    return 'put the CUDA provider of the same build beside the library that SWITCHYARD_ONNXRUNTIME names';
  if (machine.arch === 'x64' && engine.installer !== undefined)
    return `ONNXRUNTIME_NODE_INSTALL=cuda12 node ${engine.installer}`;
  return `onnxruntime-node has none for ${machine.platform} ${machine.arch}; set SWITCHYARD_ONNXRUNTIME to a build that has one`;
}

function libraryLacks(libraries: readonly Library[], major: number): Lack[] {
  const missing = libraries.filter(({ path }) => path === undefined);
  const elsewhere = missing.filter(({ unsearched }) => unsearched !== undefined);
  const nowhere = missing.filter(({ unsearched }) => unsearched === undefined);
  return [
    ...(elsewhere.length > 0 ? [notSearched(elsewhere)] : []),
    ...(nowhere.length > 0
      ? [{ what: `CUDA ${major}: no ${namesOf(nowhere)}`, step: installStep(nowhere, major) }]
      : []),
  ];
}

/** What brings a library on Debian 13, whose section non-free has CUDA 12. */
const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  'libcudart.so.12': 'libcudart12',
  'libcublas.so.12': 'libcublas12',
  'libcublasLt.so.12': 'libcublaslt12',
  'libcurand.so.10': 'libcurand10',
};

/** Names of packages in NVIDIA's repositories for apt and dnf, and in Debian's own. */
function installStep(missing: readonly Library[], major: number): string {
  const minor = major === 12 ? 9 : 0;
  const isCudnn = ({ name }: Library) => name.startsWith('libcudnn');
  const packages = [
    ...(missing.some((library) => !isCudnn(library)) ? [`cuda-libraries-${major}-${minor}`] : []),
    ...(missing.some(isCudnn) ? [`libcudnn9-cuda-${major}`] : []),
  ];
  const debian = missing.map(({ name }) => DEBIAN_PACKAGES[name]);
  const fromDebian = debian.every(Boolean)
    ? ` (on Debian 13: apt install ${debian.join(' ')}, from non-free)`
    : '';
  return `install ${packages.join(' and ')} from NVIDIA's package repository${fromDebian}, or add the folder that has them to LD_LIBRARY_PATH`;
}

function notSearched(libraries: readonly Library[]): Lack {
  const folders = [...new Set(libraries.map(({ unsearched }) => dirname(unsearched as string)))].join(':');
  return {
    what: `a way to ${namesOf(libraries)}: present in ${folders}, where the loader does not look`,
    step: `export LD_LIBRARY_PATH=${folders}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}`,
  };
}

function driverLacks({ driver, driverVersion, gpuFault, major }: Omit<CudaReport, 'lacks'>): Lack[] {
  if (driver.path === undefined) {
    if (driver.unsearched !== undefined) return [notSearched([driver])];
    const step =
      "install NVIDIA's driver for the GPU; a container gets the host's with docker run --gpus all";
    return [{ what: `an NVIDIA driver: no ${DRIVER}`, step }];
  }
  const lacks: Lack[] = [];
  if (gpuFault !== undefined) {
    const step =
      'make the command nvidia-smi list the GPU: it comes with the driver; a container must be given the GPU';
    lacks.push({ what: `a GPU that answers: ${gpuFault}`, step });
  }
  const oldest = OLDEST_DRIVER[major];
  if (driverVersion !== undefined && oldest !== undefined && Number.parseInt(driverVersion, 10) < oldest) {
    lacks.push({
      what: `a driver for CUDA ${major}: version ${driverVersion} is installed, ${oldest} or newer is needed`,
      step: `install NVIDIA's driver ${oldest} or newer`,
    });
  }
  return lacks;
}

function namesOf(libraries: readonly Library[]): string {
  return libraries.map(({ name }) => name).join(', ');
}
