import { join } from 'node:path';
import { filesIn, type NativeProgram, root } from './native-program.ts';

const at = (...paths: string[]) => paths.map((path) => join(root, path));

/** The code for the operating system that programs are made for: as SWITCHYARD_TEST_RUNNER may run them on another. */
const system = process.env.SWITCHYARD_TEST_SYSTEM ?? (process.platform === 'win32' ? 'windows' : 'posix');

const PLATFORM_SOURCES = at(`kernels/platform/${system}`).flatMap((folder) => filesIn(folder, '.cc'));

/** What compares CPU kernels with plain loops; the cases of the machine run code of headers on several threads. */
const isPlainLoop = (source: string) => !source.endsWith('machine_cases.cc');

/** Every CPU kernel against plain loops, on every instruction set of this machine. It runs all of its groups when given none. */
export const CPU_KERNELS: NativeProgram = {
  name: 'kernels_test',
  sources: at('test/kernels/cpu').flatMap((folder) => filesIn(folder, '.cc')),
  addonSources: [
    ...at('kernels/cpu', 'kernels/cpu/arch', 'kernels/cpu/quantized').flatMap((folder) =>
      filesIn(folder, '.cc'),
    ),
    ...at(`kernels/platform/${system}/pages.cc`, `kernels/platform/${system}/processors.cc`),
  ],
  options: ['-O2'],
};

/**
 * The same for the sanitizer of threads, which looks at the kernels only, because the loops that kernels are compared
 * with run on one thread and would take most of the time. What is tested of a header is compiled with its test.
 */
export const CPU_KERNELS_AND_THREADS: NativeProgram = {
  ...CPU_KERNELS,
  sources: CPU_KERNELS.sources.filter((source) => !isPlainLoop(source)),
  unwatched: CPU_KERNELS.sources.filter(isPlainLoop),
};

/** The planner and index arithmetic of the CUDA kernels. */
export const PLANNER: NativeProgram = {
  name: 'planner',
  sources: at('test/kernels/cuda/planner_test.cc'),
  options: ['-O1'],
};

/** Which experts a bounded number of slots holds. */
export const RESIDENCY: NativeProgram = {
  name: 'residency',
  sources: at('test/kernels/residency_test.cc'),
  addonSources: at('kernels/weights/residency.cc'),
  options: ['-O1'],
};

const EXPERT_MEMORY_SOURCES = [
  ...[
    ...['expert_layout', 'expert_memory', 'experts_ahead', 'lost_pages', 'mapped_file', 'parallel_reads'],
    ...['quantized_parts', 'residency', 'weight_store'],
  ].flatMap((name) => at(`kernels/weights/${name}.cc`)),
  ...PLATFORM_SOURCES,
];

/** Experts that are read from their files to a bounded number of slots. */
export const EXPERT_MEMORY: NativeProgram = {
  name: 'expert_memory',
  sources: at('test/kernels/expert_memory_test.cc'),
  addonSources: EXPERT_MEMORY_SOURCES,
  options: ['-O1'],
};

/** What needs memory where there is none. */
export const LOW_MEMORY: NativeProgram = {
  name: 'low_memory',
  sources: at('test/kernels/low_memory_test.cc'),
  addonSources: [...at('kernels/engine/worker_pool.cc'), ...EXPERT_MEMORY_SOURCES],
  options: ['-O1'],
};

/** A mapped file that gives way to a copy in memory. */
export const COPIED_PAGES: NativeProgram = {
  name: 'copied_pages',
  sources: at('test/kernels/copied_pages_test.cc'),
  addonSources: PLATFORM_SOURCES,
  options: ['-O1'],
};

/** Which pages of tensors are kept in memory. Not for sanitizers, under which mlock does nothing. */
export const PINNED_PAGES: NativeProgram = {
  name: 'pinned_pages',
  sources: at('test/kernels/pinned_pages_test.cc'),
  addonSources: [
    ...['lost_pages', 'mapped_file', 'pinned_pages', 'quantized_parts', 'weight_store'].flatMap((name) =>
      at(`kernels/weights/${name}.cc`),
    ),
    ...PLATFORM_SOURCES,
  ],
  options: ['-O1'],
};

/** Weights that are laid out in row panels while they are read. */
export const ROW_PANELS: NativeProgram = {
  name: 'row_panels',
  sources: at('test/kernels/row_panels_test.cc'),
  addonSources: [
    ...['lost_pages', 'mapped_file', 'panel_copy', 'prefetch', 'quantized_parts', 'weight_store'].flatMap(
      (name) => at(`kernels/weights/${name}.cc`),
    ),
    ...PLATFORM_SOURCES,
  ],
  options: ['-O1'],
};

/** The thread pool of sessions. */
export const WORKER_POOL: NativeProgram = {
  name: 'worker_pool',
  sources: at('test/kernels/worker_pool_test.cc'),
  addonSources: at('kernels/engine/worker_pool.cc'),
  options: ['-O1'],
};

/** Reads from a mapped file that is cut short. */
export const LOST_PAGES: NativeProgram = {
  name: 'lost_pages',
  sources: at('test/kernels/lost_pages_program.cc'),
  addonSources: [
    ...at('kernels/weights/mapped_file.cc', 'kernels/weights/lost_pages.cc'),
    ...PLATFORM_SOURCES,
  ],
  options: ['-O1'],
};
